//! Who is called what: the members of every network, for the name server.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

/// One interface of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The container's id.
    pub container: String,
    /// The network's id.
    pub network: String,
    /// Whether it finds the other members by name.
    pub names_served: bool,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its names, without a dot at the end, in lower case.
    pub names: Vec<String>,
    /// The name servers that its container was given.
    pub dns: Vec<IpAddr>,
}

/// All members. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Names(Rc<RefCell<Table>>);

#[derive(Debug, Default)]
struct Table {
    members: HashMap<u64, Member>,
    by_address: HashMap<IpAddr, u64>,
    next: u64,
}

/// What a member asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The addresses with this name; none of the wanted kind where it is empty.
    Addresses(Vec<IpAddr>),
    /// The name at this address.
    Name(String),
    /// Nobody here: ask these servers, or the host's.
    Elsewhere(Vec<IpAddr>),
}

impl Names {
    /// Adds a member.
    pub fn add(&self, member: Member) -> u64 {
        let mut table = self.0.borrow_mut();
        let number = table.next;
        table.next += 1;
        for address in &member.addresses {
            table.by_address.insert(*address, number);
        }
        table.members.insert(number, member);
        number
    }

    /// Calls a member otherwise; the names are in lower case.
    pub fn rename(&self, number: u64, names: Vec<String>) {
        if let Some(member) = self.0.borrow_mut().members.get_mut(&number) {
            member.names = names;
        }
    }

    /// Takes a member out.
    pub fn remove(&self, number: u64) {
        let mut table = self.0.borrow_mut();
        if let Some(member) = table.members.remove(&number) {
            for address in &member.addresses {
                if table.by_address.get(address) == Some(&number) {
                    table.by_address.remove(address);
                }
            }
        }
    }

    /// What a member at `asker` finds under a name; nothing for who is no member.
    pub fn find(&self, asker: IpAddr, name: &str) -> Option<Answer> {
        let table = self.0.borrow();
        let member = table.members.get(table.by_address.get(&asker)?)?;
        let elsewhere = Answer::Elsewhere(member.dns.clone());
        let own = table
            .members
            .values()
            .filter(|other| other.container == member.container && other.names_served);
        let networks: Vec<&str> = own.map(|own| own.network.as_str()).collect();
        let name = name.to_ascii_lowercase();
        let mut peers = table
            .members
            .values()
            .filter(|peer| networks.contains(&peer.network.as_str()));
        if let Some(address) = reversed(&name) {
            let found = peers.find(|peer| peer.addresses.contains(&address));
            let found = found.and_then(|peer| peer.names.first());
            return Some(found.map_or(elsewhere, |name| Answer::Name(name.clone())));
        }
        let mut addresses: Vec<IpAddr> = peers
            .filter(|peer| peer.names.contains(&name))
            .flat_map(|peer| peer.addresses.iter().copied())
            .collect();
        if addresses.is_empty() {
            return Some(elsewhere);
        }
        addresses.sort();
        Some(Answer::Addresses(addresses))
    }
}

/// The address that a name such as `2.0.17.172.in-addr.arpa` stands for.
fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let parts: Vec<&str> = digits.rsplit('.').collect();
        return parts.join(".").parse().ok().map(IpAddr::V4);
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let nibbles: String = digits.rsplit('.').collect();
    if nibbles.len() != 32 {
        return None;
    }
    let number = u128::from_str_radix(&nibbles, 16).ok()?;
    Some(IpAddr::V6(number.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(network: &str, address: &str, names: &[&str]) -> Member {
        Member {
            container: names[0].to_owned(),
            network: network.into(),
            names_served: true,
            addresses: vec![address.parse().unwrap()],
            names: names.iter().map(|&name| name.to_owned()).collect(),
            dns: Vec::new(),
        }
    }

    #[test]
    fn members_find_each_other_and_nobody_else() {
        let names = Names::default();
        names.add(member("a", "172.18.0.2", &["web", "www"]));
        let other = names.add(member("a", "172.18.0.3", &["db", "www"]));
        names.add(member("b", "172.19.0.2", &["secret"]));
        let find = |name: &str| names.find("172.18.0.2".parse().unwrap(), name).unwrap();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(find("DB"), Answer::Addresses(vec![address("172.18.0.3")]));
        assert_eq!(
            find("www"),
            Answer::Addresses(vec![address("172.18.0.2"), address("172.18.0.3")])
        );
        assert_eq!(find("secret"), Answer::Elsewhere(vec![]));
        assert_eq!(find("3.0.18.172.in-addr.arpa"), Answer::Name("db".into()));
        assert_eq!(find("2.0.19.172.in-addr.arpa"), Answer::Elsewhere(vec![]));
        names.add(Member {
            container: "web".into(),
            ..member("b", "172.19.0.3", &["web"])
        });
        // Whichever network it asks in, it finds the members of both.
        assert_eq!(
            find("secret"),
            Answer::Addresses(vec![address("172.19.0.2")])
        );
        names.remove(other);
        assert_eq!(find("db"), Answer::Elsewhere(vec![]));
        assert_eq!(names.find(address("10.0.0.1"), "web"), None);
    }

    #[test]
    fn reverse_names_are_read() {
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(reversed(v6), Some("fd00::1".parse().unwrap()));
        for bad in ["in-addr.arpa", "1.2.3.in-addr.arpa", "x.ip6.arpa", "web"] {
            assert_eq!(reversed(bad), None, "{bad}");
        }
    }
}
