//! Arguments, for running the agent on a host in tests; a guest's kernel passes none.

use std::os::fd::RawFd;

use crate::storage::devices::Devices;

/// What arguments can change.
#[derive(Debug)]
pub struct Options {
    /// `--listener N`: an inherited listening socket instead of the vsock.
    pub listener: Option<RawFd>,
    /// `--disk SERIAL=NODE`: disks instead of the virtio ones.
    pub devices: Option<Devices>,
    /// `--cgroup NAME`: the name of the container's control group.
    pub cgroup: String,
}

impl Options {
    /// Reads the arguments. What is unknown was meant for someone else: the kernel hands
    /// PID 1 every word of its command line that it does not know.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Self {
        let mut options = Self {
            listener: None,
            devices: None,
            cgroup: "container".to_owned(),
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--listener" => options.listener = arguments.next().and_then(|n| n.parse().ok()),
                "--disk" => {
                    let value = arguments.next().unwrap_or_default();
                    if let Some((serial, node)) = value.split_once('=') {
                        options.devices.get_or_insert_default().insert(serial, node);
                    }
                }
                "--cgroup" => options.cgroup = arguments.next().unwrap_or(options.cgroup),
                _ => {}
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_kernel_command_line_are_not_ours() {
        let words = ["quiet", "--cgroup", "c1", "root=x", "--listener", "7"];
        let options = Options::parse(words.map(str::to_owned));
        assert_eq!((options.listener, options.cgroup.as_str()), (Some(7), "c1"));
        assert!(options.devices.is_none());
    }
}
