#!/usr/bin/perl
# What root in a guest tries on its network, one attempt a line of arguments; prints one line of JSON for each attempt.
# usage: perl network-probe.pl ATTEMPT … where ATTEMPT is
#   tcp:HOST:PORT        connects, asks for a page, tells what came
#   scan:HOST:FROM:TO    connects to every port, tells the open and the refused ones
#   udp:HOST:PORT        sends a DNS question, tells whether anything came back
#   frame:HEX            sends one raw frame through eth0
#   sniff:SECONDS        tells the frames that arrived meanwhile, as hex, and that this system did not send
use strict;
use warnings;
use Socket qw(:DEFAULT getaddrinfo IPPROTO_TCP MSG_DONTWAIT SOCK_RAW);
use Errno qw(EINPROGRESS ECONNREFUSED);
use Time::HiRes qw(time sleep);
$| = 1;
my ($AF_PACKET, $ETH_P_ALL) = (17, 3);
# sockets at once, which ulimit -n bounds; seconds to wait for an answer
my ($BATCH, $PATIENCE) = ($ENV{PROBE_BATCH} // 900, 2.5);

sub say_json { my %answer = @_; print '{' . join(',', map { "\"$_\":$answer{$_}" } sort keys %answer) . "}\n" }
sub quoted { my ($text) = @_; $text =~ s/([^ -!#-\[\]-~])/sprintf '\u%04x', ord $1/ge; "\"$text\"" }

sub dial {
  my ($host, $port) = @_;
  my ($error, @found) = getaddrinfo($host, $port, { flags => Socket::AI_NUMERICHOST(), socktype => SOCK_STREAM });
  die "$host: $error\n" unless @found;
  socket(my $socket, $found[0]{family}, SOCK_STREAM, IPPROTO_TCP) or die "socket: $!\n";
  $socket->blocking(0);
  return ($socket, 'open') if connect($socket, $found[0]{addr});
  return ($socket, $! == EINPROGRESS ? 'pending' : "$!");
}

# Waits for sockets that are being connected; returns what became of each.
sub settle {
  my ($patience, %pending) = @_;
  my %became;
  for (my $end = time + $patience; %pending && time < $end; sleep 0.02) {
    my $bits = '';
    vec($bits, fileno $pending{$_}, 1) = 1 for keys %pending;
    next unless select(undef, my $ready = $bits, undef, 0.1);
    for my $key (keys %pending) {
      next unless vec($ready, fileno $pending{$key}, 1);
      my $errno = unpack('i', getsockopt($pending{$key}, SOL_SOCKET, SO_ERROR));
      $! = $errno;
      $became{$key} = $errno == 0 ? 'open' : $errno == ECONNREFUSED ? 'refused' : "$!";
      delete $pending{$key};
    }
  }
  $became{$_} = 'silent' for keys %pending;
  return %became;
}

sub tcp {
  my ($host, $port) = @_;
  my ($socket, $state) = dial($host, $port);
  ($state) = values %{ { settle($PATIENCE, it => $socket) } } if $state eq 'pending';
  my $came = '';
  if ($state eq 'open') {
    syswrite $socket, "GET / HTTP/1.0\r\n\r\n";
    my $bits = '';
    vec($bits, fileno $socket, 1) = 1;
    sysread $socket, $came, 400 if select($bits, undef, undef, $PATIENCE);
  }
  return (state => quoted($state), came => quoted($came));
}

sub scan {
  my ($host, $from, $to) = @_;
  my (@open, %other);
  for (my $first = $from; $first <= $to; $first += $BATCH) {
    my %pending;
    for my $port ($first .. ($first + $BATCH - 1 < $to ? $first + $BATCH - 1 : $to)) {
      my ($socket, $state) = dial($host, $port);
      if ($state eq 'pending') { $pending{$port} = $socket }
      elsif ($state eq 'open') { push @open, $port }
      else { $other{$state}++ }
    }
    my %became = settle(1, %pending);
    for my $port (keys %became) { $became{$port} eq 'open' ? push @open, $port : $other{ $became{$port} }++ }
  }
  my $rest = join ',', map { quoted($_) . ":$other{$_}" } sort keys %other;
  return (open => '[' . join(',', sort { $a <=> $b } @open) . ']', rest => "{$rest}");
}

sub udp {
  my ($host, $port) = @_;
  my ($error, @found) = getaddrinfo($host, $port, { flags => Socket::AI_NUMERICHOST(), socktype => SOCK_DGRAM });
  die "$host: $error\n" unless @found;
  socket(my $socket, $found[0]{family}, SOCK_DGRAM, 0) or die "socket: $!\n";
  setsockopt($socket, SOL_SOCKET, SO_BROADCAST, 1);
  # example.com, type A
  my $sent = send $socket, pack('nnnnnn', 7, 0x0100, 1, 0, 0, 0) . "\7example\3com\0" . pack('nn', 1, 1), 0, $found[0]{addr};
  return (state => quoted("$!")) unless $sent;
  my $bits = '';
  vec($bits, fileno $socket, 1) = 1;
  my $came = '';
  recv $socket, $came, 500, MSG_DONTWAIT if select($bits, undef, undef, $PATIENCE);
  return (state => quoted(length $came ? 'answered' : 'silent'));
}

sub packet_socket {
  socket(my $socket, $AF_PACKET, SOCK_RAW, unpack('S', pack('n', $ETH_P_ALL))) or die "packet socket: $!\n";
  open(my $index, '<', '/sys/class/net/eth0/ifindex') or die "eth0: $!\n";
  # struct sockaddr_ll
  bind $socket, pack('SnlSCCa8', $AF_PACKET, $ETH_P_ALL, scalar(<$index>) + 0, 0, 0, 0, '') or die "bind: $!\n";
  return $socket;
}

sub frame {
  my ($hex) = @_;
  my $sent = syswrite packet_socket(), pack('H*', $hex);
  return (state => quoted(defined $sent ? 'sent' : "$!"));
}

sub sniff {
  my ($seconds) = @_;
  my $socket = packet_socket();
  my @frames;
  for (my $end = time + $seconds; (my $left = $end - time) > 0;) {
    my $bits = '';
    vec($bits, fileno $socket, 1) = 1;
    next unless select($bits, undef, undef, $left);
    my $from = recv $socket, my $frame, 2000, MSG_DONTWAIT;
    next unless defined $from;
    # sll_pkttype 4: sent by this system
    push @frames, unpack('H*', $frame) unless (unpack 'SnlSCC', $from)[4] == 4 || @frames >= 200;
  }
  return (frames => '[' . join(',', map { quoted($_) } @frames) . ']');
}

my %attempts = (tcp => \&tcp, scan => \&scan, udp => \&udp, frame => \&frame, sniff => \&sniff);

# One attempt; prints what came of it.
sub attempt {
  my ($attempt) = @_;
  my ($kind, $rest) = split /:/, $attempt, 2;
  # an IPv6 address stands in brackets
  my @arguments = $rest =~ /^\[(.*?)\]:?(.*)$/ ? ($1, split /:/, $2) : split /:/, $rest;
  my %answer = eval { $attempts{$kind}->(@arguments) };
  %answer = (state => quoted($@ =~ s/\n//r)) if $@;
  say_json(attempt => quoted($attempt), %answer);
}

# What waits for an answer waits in a process of its own, so that all together take as long as one.
my @answers = map {
  my $attempt = $_;
  my $answer;
  if ($attempt !~ /^frame:/) {
    my $child = open($answer, '-|') // die "fork: $!\n";
    if ($child == 0) { attempt($attempt); exit 0 }
  }
  [$attempt, $answer];
} @ARGV;
for (@answers) {
  my ($attempt, $answer) = @$_;
  if ($answer) { print <$answer> }
  else { attempt($attempt) }
}
