#!/usr/bin/perl
# Sends a datagram to every UDP port of a range and tells which answered and which were refused, as one line of JSON like
# those of network-probe.pl. usage: perl udp-scan.pl HOST FROM TO
use strict;
use warnings;
use Socket qw(:DEFAULT MSG_DONTWAIT);
use Errno qw(ECONNREFUSED EAGAIN);
use Time::HiRes qw(sleep);
# sockets at once, which ulimit -n bounds; seconds to wait for an answer to the last of them
my ($BATCH, $PATIENCE) = ($ENV{PROBE_BATCH} // 900, 2.5);

my ($host, $from, $to) = @ARGV;
my (@open, %rest);
for (my $first = $from; $first <= $to; $first += $BATCH) {
  my %asked;
  for my $port ($first .. ($first + $BATCH - 1 < $to ? $first + $BATCH - 1 : $to)) {
    socket(my $socket, PF_INET, SOCK_DGRAM, 0) or die "socket: $!\n";
    # connected, so that a refusal is told to this socket
    connect($socket, sockaddr_in($port, inet_aton($host))) or die "connect: $!\n";
    $! = 0;
    if (defined send $socket, 'who is there?', 0) { $asked{$port} = $socket }
    else { $rest{"$!"}++ }
    # the queue of a slow port is short
    sleep 0.01 if $port % 50 == 0;
  }
  sleep $PATIENCE;
  for my $port (keys %asked) {
    if (defined recv $asked{$port}, my $came, 500, MSG_DONTWAIT) { push @open, $port }
    else { $rest{ $! == ECONNREFUSED ? 'refused' : $! == EAGAIN ? 'silent' : "$!" }++ }
  }
}
my $rest = join ',', map { "\"$_\":$rest{$_}" } sort keys %rest;
print "{\"attempt\":\"udp-scan:$host:$from:$to\",\"open\":[", join(',', sort { $a <=> $b } @open), "],\"rest\":{$rest}}\n";
