# HTTP::Daemon, one connection at a time: http_daemon.pl PORT. `/slow` answers after 1 s.
use strict;
use warnings;
use HTTP::Daemon;
use HTTP::Response;

my $daemon = HTTP::Daemon->new(LocalPort => $ARGV[0], Listen => 64, ReuseAddr => 1) or die "$!";
while (my $client = $daemon->accept) {
    if (my $request = $client->get_request) {
        sleep 1 if $request->uri->path eq '/slow';
        $client->send_response(HTTP::Response->new(200, 'OK', ['Connection' => 'close'], "served\n"));
    }
    $client->close;
}
