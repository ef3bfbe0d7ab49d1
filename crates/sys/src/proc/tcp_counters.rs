//! Counters of TCP in a network namespace.

/// The connections that the calling thread's network namespace has accepted since its creation
/// (`PassiveOpens` of RFC 4022, in `/proc/PID/net/snmp`). `None` if the file cannot be read. Needs no privilege.
#[must_use]
pub fn passive_opens() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/thread-self/net/snmp").ok()?)
}

/// Each protocol has a line of names and a line of values.
fn parse(text: &str) -> Option<u64> {
    let mut tcp = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (tcp.next()?, tcp.next()?);
    let at = names.split_ascii_whitespace().position(|name| name == "PassiveOpens")?;
    values.split_ascii_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_found_by_its_name() {
        let text = "Ip: Forwarding\nIp: 1\nTcp: RtoAlgorithm MaxConn ActiveOpens PassiveOpens\n\
                    Tcp: 1 -1 7 18446744073709551615\nUdp: InDatagrams\nUdp: 3\n";
        assert_eq!(parse(text), Some(u64::MAX));
        for broken in ["", "Tcp: PassiveOpens\n", "Tcp: PassiveOpens\nTcp: x\n", "Tcp: A\nTcp: 1\n"]
        {
            assert_eq!(parse(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_connection_is_counted() {
        let before = passive_opens().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.accept().unwrap();
        assert!(passive_opens().unwrap() > before);
        drop(client);
    }
}
