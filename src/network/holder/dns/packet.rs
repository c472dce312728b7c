//! Name queries and answers on the wire (RFC 1035), as far as a forwarder has to understand
//! them: one question, and answers that are addresses or a name.
//!
//! Queries come from guests and are hostile. A whole library for names would be ten times the
//! rest of the holder; what is not understood here is passed on or refused as it is.

use std::net::IpAddr;

const HEADER: usize = 12;
const MAX_NAME: usize = 255;
const MAX_LABEL: usize = 63;

/// IPv4 addresses.
pub const A: u16 = 1;
/// A name for another.
pub const PTR: u16 = 12;
/// IPv6 addresses.
pub const AAAA: u16 = 28;
/// Everything that there is.
const ANY: u16 = 255;
const INTERNET: u16 = 1;

/// How long who asked may remember, in seconds; containers come and go.
const LIFETIME: u32 = 5;

/// The largest answer over UDP to who did not say that it takes more.
pub const UDP_LIMIT: usize = 512;

/// Codes of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// All is well.
    Fine = 0,
    /// The query cannot be read.
    Malformed = 1,
    /// The servers that know did not answer.
    Failed = 2,
    /// The query is of a kind that is not served.
    NotImplemented = 4,
}

/// A query, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Its number, chosen by who asks.
    pub id: u16,
    /// The name, without a dot at the end.
    pub name: String,
    /// What is wanted of it.
    pub kind: u16,
    /// The class; 1 is the internet.
    pub class: u16,
    /// Where the question ends.
    end: usize,
}

impl Query {
    /// Reads a query; nothing where it is none, or not one with a single question.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER)?;
        let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let response = header[2] & 0x80 != 0;
        let operation = header[2] >> 3 & 0x0f;
        if response || operation != 0 || number(4) != 1 {
            return None;
        }
        let (name, at) = read_name(bytes)?;
        let rest = bytes.get(at..at + 4)?;
        Some(Self {
            id: number(0),
            name,
            kind: u16::from_be_bytes([rest[0], rest[1]]),
            class: u16::from_be_bytes([rest[2], rest[3]]),
            end: at + 4,
        })
    }

    /// Whether it asks for what a member of a network has.
    pub fn is_about_hosts(&self) -> bool {
        self.class == INTERNET && [A, AAAA, PTR, ANY].contains(&self.kind)
    }

    /// An answer with the addresses of the wanted kind, maybe none. `bytes` is the query.
    pub fn addresses(&self, bytes: &[u8], addresses: &[IpAddr], limit: usize) -> Vec<u8> {
        let mut answer = self.begin(bytes, Code::Fine, true);
        let mut count = 0_u16;
        for address in addresses {
            let (kind, octets) = match address {
                IpAddr::V4(address) => (A, address.octets().to_vec()),
                IpAddr::V6(address) => (AAAA, address.octets().to_vec()),
            };
            let wanted = self.kind == kind || self.kind == ANY;
            if wanted && answer.len() + 12 + octets.len() <= limit {
                put_record(&mut answer, kind, &octets);
                count += 1;
            }
        }
        answer[6..8].copy_from_slice(&count.to_be_bytes());
        answer
    }

    /// An answer that is a name.
    pub fn pointer(&self, bytes: &[u8], name: &str) -> Vec<u8> {
        let mut answer = self.begin(bytes, Code::Fine, true);
        if let Some(name) = write_name(name)
            && [PTR, ANY].contains(&self.kind)
        {
            put_record(&mut answer, PTR, &name);
            answer[6..8].copy_from_slice(&1_u16.to_be_bytes());
        }
        answer
    }

    /// An answer that is no answer.
    pub fn refusal(&self, bytes: &[u8], code: Code) -> Vec<u8> {
        self.begin(bytes, code, false)
    }

    /// The head of an answer: the question, as it came.
    fn begin(&self, bytes: &[u8], code: Code, authoritative: bool) -> Vec<u8> {
        let mut answer = bytes.get(..self.end).unwrap_or_default().to_vec();
        answer[2] = 0x80 | u8::from(authoritative) << 2 | answer[2] & 0x01;
        answer[3] = 0x80 | code as u8;
        answer[4..HEADER].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        answer
    }
}

/// What to say to a packet that [`Query::read`] does not take, if anything.
pub fn complaint(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = bytes.get(..HEADER)?;
    if header[2] & 0x80 != 0 {
        return None;
    }
    let code = match header[2] >> 3 & 0x0f {
        0 => Code::Malformed,
        _ => Code::NotImplemented,
    };
    let mut answer = header.to_vec();
    answer[2] = 0x80 | header[2] & 0x79;
    answer[3] = 0x80 | code as u8;
    answer[4..].fill(0);
    Some(answer)
}

/// Whether `answer` is one to the query `asked` under the number `id`.
pub fn is_answer(answer: &[u8], id: u16, asked: &[u8]) -> bool {
    let Some(query) = Query::read(asked) else {
        return false;
    };
    // The same question, apart from the case of letters.
    let same = match (answer.get(HEADER..query.end), asked.get(HEADER..query.end)) {
        (Some(theirs), Some(ours)) => theirs.eq_ignore_ascii_case(ours),
        _ => false,
    };
    same && answer.get(..2) == Some(&id.to_be_bytes()) && answer[2] & 0x80 != 0
}

/// Gives a packet another number.
pub fn renumber(packet: &mut [u8], id: u16) {
    if let Some(place) = packet.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// The name at the beginning of the first question, and where it ends.
fn read_name(bytes: &[u8]) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = HEADER;
    loop {
        let len = usize::from(*bytes.get(at)?);
        at += 1;
        match len {
            0 => return Some((name, at)),
            // A reference to elsewhere makes no sense in the first name.
            _ if len > MAX_LABEL || at + len - HEADER > MAX_NAME => return None,
            _ => {}
        }
        let label = bytes.get(at..at + len)?;
        at += len;
        if !name.is_empty() {
            name.push('.');
        }
        // What is no letter of a host's name is no member's name either.
        name.extend(label.iter().map(|&byte| match byte {
            b'.' => '\u{fffd}',
            byte if byte.is_ascii_graphic() => char::from(byte),
            _ => '\u{fffd}',
        }));
    }
}

fn write_name(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        if label.is_empty() || label.len() > MAX_LABEL {
            return None;
        }
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() <= MAX_NAME).then_some(bytes)
}

fn put_record(answer: &mut Vec<u8>, kind: u16, data: &[u8]) {
    // The name of the question.
    answer.extend_from_slice(&[0xc0, HEADER as u8]);
    answer.extend_from_slice(&kind.to_be_bytes());
    answer.extend_from_slice(&INTERNET.to_be_bytes());
    answer.extend_from_slice(&LIFETIME.to_be_bytes());
    answer.extend_from_slice(&(data.len() as u16).to_be_bytes());
    answer.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend(write_name(name).unwrap());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(INTERNET.to_be_bytes());
        bytes
    }

    #[test]
    fn a_query_is_read_and_answered() {
        let bytes = query("db.example", A);
        let read = Query::read(&bytes).unwrap();
        assert_eq!(
            (read.name.as_str(), read.kind, read.id),
            ("db.example", A, 0x1234)
        );
        let addresses = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let answer = read.addresses(&bytes, &addresses, UDP_LIMIT);
        assert_eq!(&answer[..8], &[0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1]);
        assert_eq!(answer[answer.len() - 4..], [10, 0, 0, 2]);
        assert!(is_answer(&answer, 0x1234, &bytes));
        assert!(!is_answer(&answer, 0x1235, &bytes));
        assert!(!is_answer(&answer, 0x1234, &query("dc.example", A)));
        let none = Query::read(&query("db", AAAA)).unwrap();
        let none = none.addresses(&query("db", AAAA), &addresses[..1], UDP_LIMIT);
        assert_eq!(none[6..8], [0, 0]);
    }

    #[test]
    fn an_answer_keeps_to_its_limit() {
        let bytes = query("www", A);
        let many: Vec<IpAddr> = (0..200).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        let answer = Query::read(&bytes)
            .unwrap()
            .addresses(&bytes, &many, UDP_LIMIT);
        assert!(answer.len() <= UDP_LIMIT);
        let count = u16::from_be_bytes([answer[6], answer[7]]);
        assert_eq!(answer.len(), bytes.len() + usize::from(count) * 16);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(query) = Query::read(&bytes) {
                prop_assert!(query.name.len() <= 3 * MAX_NAME);
                let answer = query.addresses(&bytes, &[IpAddr::from([1, 2, 3, 4])], UDP_LIMIT);
                prop_assert!(answer.len() <= UDP_LIMIT);
                prop_assert!(is_answer(&answer, query.id, &bytes));
            }
            let _ = complaint(&bytes);
            let _ = is_answer(&bytes, 7, &bytes);
        }

        #[test]
        fn changed_queries_are_read_or_refused(
            name in "[a-z]{1,20}(\\.[a-z]{1,20}){0,5}",
            at in 0_usize..60,
            byte in any::<u8>(),
        ) {
            let mut bytes = query(&name, A);
            prop_assert_eq!(&Query::read(&bytes).unwrap().name, &name);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if let Some(query) = Query::read(&bytes) {
                let _ = query.pointer(&bytes, &name);
                let _ = query.refusal(&bytes, Code::Failed);
            }
        }
    }
}
