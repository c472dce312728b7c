//! Machines with real guests. Each test boots a kernel, so it needs one:
//! `HULL_TEST_KERNELS` or `target/kernels` holds `linux-um` (and `vmlinux-x86_64`,
//! `vmlinux-aarch64` for the tests of the tcg engine). Without it, a test fails and says so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests fail by panicking"
)]

mod support;

mod block;
mod ends;
mod jail;
mod life;
#[cfg(feature = "misbehave")]
mod misbehave;
mod network;
mod shares;
mod streams;
mod tcg;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    // The machine's process is this program again, as it is `hull` in the product.
    if std::env::args().nth(1).as_deref() == Some(vmm::VMM_ARGUMENT) {
        return vmm::vmm_main();
    }
    match std::env::args().nth(1).as_deref() {
        #[cfg(feature = "misbehave")]
        Some(misbehave::MISBEHAVE) => return misbehave::misbehave(),
        Some(life::AS_USER) => return life::as_user(),
        Some(life::BOOT_AND_WAIT) => return life::boot_and_wait(),
        _ => {}
    }
    let mut arguments = Arguments::from_args();
    // Guests of one test at a time have the machine for themselves.
    arguments.test_threads.get_or_insert(2);
    let engines = std::env::var("HULL_TEST_ENGINES").unwrap_or_default();
    let on_kvm = if engines.contains("kvm") {
        ends::TESTS
    } else {
        &[]
    };
    let tests: Vec<(&str, fn())> = [
        life::TESTS,
        streams::TESTS,
        block::TESTS,
        shares::TESTS,
        jail::TESTS,
        network::TESTS,
        #[cfg(feature = "misbehave")]
        misbehave::TESTS,
        tcg::TESTS,
        on_kvm,
    ]
    .into_iter()
    .flatten()
    .copied()
    .collect();
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            Trial::test(name, move || {
                test();
                Ok(())
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
