# A server on 127.0.0.1 that answers every request with its pid: preload_serve.pl PORT
use strict;
use warnings;
use Socket;
socket(my $server, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
bind($server, sockaddr_in($ARGV[0], INADDR_LOOPBACK)) or die "bind: $!";
listen($server, 16) or die "listen: $!";
while (accept(my $client, $server)) {
    sysread($client, my $request, 4096);
    syswrite($client, "HTTP/1.0 200 OK\r\n\r\n$$\n");
    close($client);
}
