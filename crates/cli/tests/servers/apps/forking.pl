# A process a connection: forking.pl PORT. `/slow` answers after 1 s.
use strict;
use warnings;
use IO::Socket::INET;

$SIG{CHLD} = 'IGNORE';
my $server = IO::Socket::INET->new(LocalPort => $ARGV[0], Listen => 64, ReuseAddr => 1) or die "$!";
while (1) {
    my $client = $server->accept or next;
    my $pid = fork;
    if ($pid == 0) {
        my $first = <$client> // exit;
        while (my $line = <$client>) {
            last if $line =~ /^\r?\n$/;
        }
        sleep 1 if $first =~ m{ /slow };
        print $client "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nserved\n";
        close $client;
        exit;
    }
    close $client;
}
