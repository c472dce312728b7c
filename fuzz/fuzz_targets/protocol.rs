//! Frames and messages of the agent's protocol, in both directions. What is understood is
//! understood the same way when it is sent again.

#![no_main]

use guest_agent::protocol::{
    Envelope, Exit, FrameError, FrameKind, MAX_PAYLOAD, Response, read_frame, write_frame,
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    loop {
        let before = rest;
        let frame = match read_frame(&mut rest) {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(FrameError::TooLong(len)) => {
                assert!(len as usize > MAX_PAYLOAD);
                break;
            }
            Err(_) => break,
        };
        let mut again = Vec::new();
        write_frame(&mut again, frame.kind, &frame.payload).unwrap();
        assert!(before.starts_with(&again));
        match frame.kind {
            FrameKind::Request => round::<Envelope>(&frame.payload),
            FrameKind::Response => round::<Response>(&frame.payload),
            FrameKind::Exit => round::<Exit>(&frame.payload),
            _ => {}
        }
    }
});

fn round<T: serde::Serialize + for<'a> serde::Deserialize<'a>>(payload: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<T>(payload) {
        let first = serde_json::to_vec(&message).unwrap();
        let again: T = serde_json::from_slice(&first).unwrap();
        assert_eq!(serde_json::to_vec(&again).unwrap(), first);
    }
}
