//! The patched guest kernel beside ordinary Linux: what programs must never notice.

use crate::harness::Hull;

/// Floating point registers across threads, signals and forks; faults of memory that cannot
/// be read, written or executed, and those that are none.
#[test]
fn registers_and_faults_are_an_ordinary_kernels() {
    let hull = Hull::shared();
    let program = include_str!("guest_kernel.py");
    let text = hull.ok(&["run", "--rm", "python", "python3", "-c", program]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        ["threads True True", "fork 0 True", "faults 11 11 11 11 0 0"]
    );
}
