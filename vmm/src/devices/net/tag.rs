//! The tag of a VLAN in an Ethernet frame (IEEE 802.1Q).

/// The length of a frame's two addresses, behind which a tag lies.
pub(super) const ADDRESSES: usize = 12;

/// The length of a tag.
pub(super) const TAG_LEN: usize = 4;

/// What stands where an untagged frame has its type.
const TAGGED: [u8; 2] = [0x81, 0x00];

/// The bits of a VLAN's number; the others are the frame's priority.
const NUMBER: u16 = 0x0fff;

/// The number of a VLAN, or 0 for frames without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(u16);

impl Tag {
    /// Not of any VLAN.
    pub(super) const NONE: Self = Self(0);

    /// The tag with this number.
    pub(super) fn new(number: u16) -> Self {
        Self(number & NUMBER)
    }

    /// A frame's tag, if there is one; 0 in it only carries a priority.
    pub(super) fn of_frame(start: &[u8; ADDRESSES + TAG_LEN]) -> Option<Self> {
        match start {
            [.., a, b, high, low] if [*a, *b] == TAGGED => {
                Some(Self::new(u16::from_be_bytes([*high, *low])))
            }
            _ => None,
        }
    }

    /// The tag as it stands in a frame.
    pub(super) fn bytes(self) -> [u8; TAG_LEN] {
        let [high, low] = self.0.to_be_bytes();
        [TAGGED[0], TAGGED[1], high, low]
    }

    /// The token of its TAP device at the poller.
    pub(super) fn token(self) -> u32 {
        self.0.into()
    }

    /// Whose token this is.
    pub(super) fn of_token(token: u32) -> Self {
        Self::new(token as u16)
    }
}
