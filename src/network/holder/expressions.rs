//! Rules of the kernel's packet filter, as nf_tables takes them: each a list of expressions
//! over 4-byte registers.

use nix::libc;

use super::netlink::Message;

const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;

const LIST_ITEM: u16 = 1;
/// The first 4-byte register.
const FIRST_REGISTER: u32 = 8;

/// What a table filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6 packets that are routed or are for the namespace itself.
    Inet = 1,
    /// Frames between a bridge's ports.
    Bridge = 7,
}

/// The name of every table here.
const TABLE: &str = "hull";

fn message(family: Family, kind: u16, flags: libc::c_int) -> Message {
    // `struct nfgenmsg`: family, version, resource.
    Message::new(SUBSYSTEM << 8 | kind, flags).body(&[family as u8, 0, 0, 0])
}

/// Frames messages so that they take effect together or not at all.
pub fn batch(messages: Vec<Message>) -> Vec<Message> {
    let edge = |kind| {
        let body = [0, 0, 0, SUBSYSTEM as u8];
        Message::bare(kind, libc::NLM_F_REQUEST).body(&body)
    };
    let mut all = vec![edge(BATCH_BEGIN)];
    all.extend(messages);
    all.push(edge(BATCH_END));
    all
}

/// Makes a table.
pub fn table(family: Family) -> Message {
    message(family, NEW_TABLE, libc::NLM_F_CREATE).text(1, TABLE)
}

/// Where packets meet a chain.
#[derive(Debug, Clone, Copy)]
pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// Which station on a packet's way.
    pub number: u32,
    /// Its order among the chains of that station.
    pub priority: i32,
    /// Whether what no rule decides passes.
    pub accept: bool,
}

/// Makes a chain.
pub fn chain(family: Family, name: &str, hook: Hook) -> Message {
    message(family, NEW_CHAIN, libc::NLM_F_CREATE)
        .text(1, TABLE)
        .text(3, name)
        .nested(4, |m| {
            m.number(1, hook.number).number(2, hook.priority as u32)
        })
        .number(5, u32::from(hook.accept))
        .text(7, hook.kind)
}

/// Makes a set of keys of so many bytes.
pub fn set(family: Family, name: &str, id: u32, key_len: u32) -> Message {
    message(family, NEW_SET, libc::NLM_F_CREATE)
        .text(1, TABLE)
        .text(2, name)
        .number(3, 0)
        .number(4, 0)
        .number(5, key_len)
        .number(10, id)
}

/// Adds a key to a set or takes it out.
pub fn element(family: Family, set: &str, key: &[u8], present: bool) -> Message {
    let (kind, flags) = if present {
        (NEW_ELEMENT, libc::NLM_F_CREATE)
    } else {
        (DELETE_ELEMENT, 0)
    };
    message(family, kind, flags)
        .text(1, TABLE)
        .text(2, set)
        .nested(3, |m| {
            m.nested(LIST_ITEM, |m| m.nested(1, |m| m.attribute(1, key)))
        })
}

/// A value about a packet.
#[derive(Debug, Clone, Copy)]
pub enum Value {
    /// Of the kernel's own notes; see [`meta`].
    Meta(u32),
    /// So many bytes of a header from an offset on.
    Header(Header, u32, u32),
    /// The state of the connection that it belongs to.
    ConnectionState,
}

/// Numbers of [`Value::Meta`].
pub mod meta {
    /// The type of what a frame carries, 2 bytes in network order.
    pub const PROTOCOL: u32 = 1;
    /// The interface that it came from, its number in 4 bytes.
    pub const FROM: u32 = 4;
    /// The interface that it goes to, its number in 4 bytes.
    pub const TO: u32 = 5;
    /// The name of the interface that it goes to, 16 bytes.
    pub const TO_NAME: u32 = 7;
    /// 2 for IPv4, 10 for IPv6.
    pub const FAMILY: u32 = 15;
    /// The protocol above IP, 1 byte.
    pub const TRANSPORT: u32 = 16;
}

/// A header of a packet.
#[derive(Debug, Clone, Copy)]
pub enum Header {
    /// Ethernet's.
    Link = 0,
    /// ARP's or IP's.
    Network = 1,
    /// That of TCP, UDP or ICMP.
    Transport = 2,
}

/// A rule under construction: conditions, which must all hold, then what happens.
#[derive(Debug)]
pub struct Rule {
    message: Message,
    expressions: Vec<Expression>,
}

#[derive(Debug)]
struct Expression(&'static str, Vec<Attribute>);

#[derive(Debug)]
enum Attribute {
    Number(u16, u32),
    Text(u16, &'static str),
    /// A constant.
    Data(u16, Vec<u8>),
    Verdict(u16, u32),
}

impl Rule {
    /// A rule at the end of a chain.
    pub fn new(family: Family, chain: &str) -> Self {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        let message = message(family, NEW_RULE, flags)
            .text(1, TABLE)
            .text(2, chain);
        Self {
            message,
            expressions: Vec::new(),
        }
    }

    fn push(mut self, name: &'static str, attributes: Vec<Attribute>) -> Self {
        self.expressions.push(Expression(name, attributes));
        self
    }

    fn load(self, value: Value, register: u32) -> Self {
        use Attribute::Number;
        let register = FIRST_REGISTER + register;
        match value {
            Value::Meta(key) => self.push("meta", vec![Number(1, register), Number(2, key)]),
            Value::Header(header, offset, len) => {
                let base = Number(2, header as u32);
                let place = [Number(1, register), base, Number(3, offset), Number(4, len)];
                self.push("payload", place.into())
            }
            Value::ConnectionState => self.push("ct", vec![Number(1, register), Number(2, 0)]),
        }
    }

    /// The value is this.
    pub fn is(self, value: Value, expected: &[u8]) -> Self {
        self.load(value, 0).compare(0, expected)
    }

    fn compare(self, operator: u32, expected: &[u8]) -> Self {
        use Attribute::{Data, Number};
        let attributes = vec![
            Number(1, FIRST_REGISTER),
            Number(2, operator),
            Data(3, expected.to_vec()),
        ];
        self.push("cmp", attributes)
    }

    /// The packet belongs to a connection that was let through before, or to an error of one.
    pub fn of_known_connection(self) -> Self {
        use Attribute::{Data, Number};
        const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
        let attributes = vec![
            Number(1, FIRST_REGISTER),
            Number(2, FIRST_REGISTER),
            Number(3, 4),
            Data(4, ESTABLISHED_OR_RELATED.to_ne_bytes().into()),
            Data(5, vec![0; 4]),
        ];
        self.load(Value::ConnectionState, 0)
            .push("bitwise", attributes)
            .compare(1, &[0; 4])
    }

    /// The values together are in a set, or are not.
    pub fn are_in(
        mut self,
        values: &[(Value, u32)],
        set: &'static str,
        id: u32,
        inside: bool,
    ) -> Self {
        use Attribute::{Number, Text};
        let mut register = 0;
        for &(value, len) in values {
            self = self.load(value, register);
            register += len.div_ceil(4);
        }
        let attributes = vec![
            Text(1, set),
            Number(2, FIRST_REGISTER),
            Number(4, id),
            Number(5, u32::from(!inside)),
        ];
        self.push("lookup", attributes)
    }

    /// The packet passes.
    pub fn accept(self) -> Message {
        self.decide(1)
    }

    /// The packet is lost.
    pub fn drop(self) -> Message {
        self.decide(0)
    }

    fn decide(self, code: u32) -> Message {
        let attributes = vec![Attribute::Number(1, 0), Attribute::Verdict(2, code)];
        self.push("immediate", attributes).finish()
    }

    /// The packet goes on with the address of the interface that it leaves by.
    pub fn masquerade(self) -> Message {
        self.push("masq", Vec::new()).finish()
    }

    fn finish(self) -> Message {
        let expressions = self.expressions;
        self.message.nested(4, |m| {
            expressions
                .into_iter()
                .fold(m, |m, Expression(name, attributes)| {
                    m.nested(LIST_ITEM, |m| {
                        m.text(1, name)
                            .nested(2, |m| attributes.into_iter().fold(m, Attribute::put))
                    })
                })
        })
    }
}

impl Attribute {
    fn put(message: Message, attribute: Self) -> Message {
        match attribute {
            Self::Number(kind, value) => message.number(kind, value),
            Self::Text(kind, value) => message.text(kind, value),
            Self::Data(kind, value) => message.nested(kind, |m| m.attribute(1, &value)),
            Self::Verdict(kind, code) => {
                message.nested(kind, |m| m.nested(2, |m| m.number(1, code)))
            }
        }
    }
}
