<?php
// A server on 127.0.0.1 that answers every request with its pid: preload_serve.php PORT
$server = stream_socket_server("tcp://127.0.0.1:{$argv[1]}", $number, $why);
if (!$server) {
    fwrite(STDERR, "$why\n");
    exit(1);
}
while (true) {
    $client = @stream_socket_accept($server, 3600);
    if (!$client) continue;
    fread($client, 4096);
    fwrite($client, "HTTP/1.0 200 OK\r\n\r\n" . getmypid() . "\n");
    fclose($client);
}
