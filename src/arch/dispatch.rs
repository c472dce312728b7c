//! Where a container's programs run: one function, one table.
//!
//! | host and engine | image of the same architecture | foreign image |
//! | --- | --- | --- |
//! | `kvm` | native | qemu-user in the guest |
//! | `uml` | native | qemu-user in the guest |
//! | `tcg` | a machine of the image's architecture | a machine of the image's architecture if there is one, else qemu-user in a guest of the host's |
//!
//! `--emulation user` keeps the guest's architecture the host's; `--emulation system` asks
//! for a whole machine of the image's architecture, which only `tcg` offers.

use serde::{Deserialize, Serialize};
use vmm::{EngineKind, GuestArch};

use crate::container::Emulation;

/// What the user asked for and what there is.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// `GOARCH` of the host.
    pub host: &'a str,
    /// `GOARCH` of the image.
    pub image: &'a str,
    /// `--engine`.
    pub engine: Option<EngineKind>,
    /// `--emulation`.
    pub emulation: Option<Emulation>,
    /// The weakest boundary that will do.
    pub isolation: Isolation,
    /// Whether KVM runs guests here, and else a sentence why not. Of no account where
    /// [`asks_kvm`] says so.
    pub kvm: Result<String, String>,
}

/// What must stand between a guest and the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// The hardware's virtualization.
    Hardware,
    /// A kernel of the guest's own, which every engine gives.
    Kernel,
    /// Whatever there is.
    #[default]
    Any,
}

impl Isolation {
    /// The stronger one.
    #[must_use]
    pub fn strictest(self, other: Self) -> Self {
        match (self, other) {
            (Self::Hardware, _) | (_, Self::Hardware) => Self::Hardware,
            (Self::Kernel, _) | (_, Self::Kernel) => Self::Kernel,
            (Self::Any, Self::Any) => Self::Any,
        }
    }
}

/// Whether the choice depends on KVM at all.
pub fn asks_kvm(engine: Option<EngineKind>, emulation: Option<Emulation>) -> bool {
    match engine {
        Some(engine) => engine == EngineKind::Kvm,
        None => emulation != Some(Emulation::System),
    }
}

/// Where the programs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The engine.
    pub engine: EngineKind,
    /// The guest kernel's architecture.
    pub guest: GuestArch,
    /// Whether the image's programs need qemu-user in the guest.
    pub user_emulation: bool,
}

/// Why there is no place to run the image.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DispatchError {
    /// No emulator and no machine for it.
    #[error(
        "no way to run images for {0} here: there is neither a machine nor an emulator for that architecture"
    )]
    UnknownArchitecture(String),
    /// KVM was asked for and does not run guests.
    #[error("engine kvm does not work here: {0}")]
    NoKvm(String),
    /// Nothing strong enough.
    #[error(
        "isolation hardware was asked for (--isolation, or the settings) and needs engine kvm, and this would run in engine {engine}, which has no hardware boundary{}", because(.why)
    )]
    TooWeak {
        /// What would have been chosen.
        engine: EngineKind,
        /// Why it is not KVM, if that was tried.
        why: Option<String>,
    },
    /// UML exists for x86-64 hosts only.
    #[error("engine uml needs an x86-64 host and this one is {0}, use --engine tcg")]
    UmlHost(String),
    /// UML and KVM run on the host's CPU.
    #[error(
        "--emulation system needs engine tcg, engine {0} runs guests on the host's own CPU; leave out --engine or use --engine tcg"
    )]
    SystemNeedsTcg(EngineKind),
    /// No kernel of that architecture.
    #[error(
        "--emulation system has no machine for {0} (it has amd64 and arm64), use --emulation user"
    )]
    NoMachine(String),
    /// The host is of neither architecture.
    #[error("hull does not run on {0} hosts, it needs x86-64 or aarch64")]
    Host(String),
}

fn because(why: &Option<String>) -> String {
    why.as_ref().map_or(String::new(), |why| format!(": {why}"))
}

/// The choice.
pub fn choose(question: &Question<'_>) -> Result<Plan, DispatchError> {
    let plan = choose_engine(question)?;
    if question.isolation == Isolation::Hardware && plan.engine != EngineKind::Kvm {
        let asked = asks_kvm(question.engine, question.emulation);
        return Err(DispatchError::TooWeak {
            engine: plan.engine,
            why: question.kvm.clone().err().filter(|_| asked),
        });
    }
    Ok(plan)
}

fn choose_engine(question: &Question<'_>) -> Result<Plan, DispatchError> {
    let host = machine(question.host).ok_or_else(|| DispatchError::Host(question.host.into()))?;
    let own_machine = machine(question.image);
    let emulator = super::binfmt::TABLE
        .iter()
        .any(|row| row.architecture == question.image);
    if own_machine.is_none() && !emulator {
        return Err(DispatchError::UnknownArchitecture(
            question.image.to_owned(),
        ));
    }
    let system = question.emulation == Some(Emulation::System);
    let engine = match question.engine {
        Some(engine) => engine,
        None if !system && question.kvm.is_ok() => EngineKind::Kvm,
        None if system || host != GuestArch::X86_64 => EngineKind::Tcg,
        None => EngineKind::Uml,
    };
    match engine {
        EngineKind::Uml if host != GuestArch::X86_64 => {
            Err(DispatchError::UmlHost(question.host.to_owned()))
        }
        EngineKind::Uml if system => Err(DispatchError::SystemNeedsTcg(engine)),
        EngineKind::Kvm if question.kvm.is_err() => {
            let why = question.kvm.clone().err().unwrap_or_default();
            Err(DispatchError::NoKvm(why))
        }
        EngineKind::Kvm if system && own_machine != Some(host) => {
            Err(DispatchError::SystemNeedsTcg(engine))
        }
        EngineKind::Uml | EngineKind::Kvm => Ok(plan(engine, host, question.image)),
        EngineKind::Tcg => match own_machine {
            None if system => Err(DispatchError::NoMachine(question.image.to_owned())),
            Some(own) if question.emulation != Some(Emulation::User) => {
                Ok(plan(engine, own, question.image))
            }
            _ => Ok(plan(engine, host, question.image)),
        },
    }
}

/// `GOARCH` names of the programs that a guest's CPU and kernel run by themselves.
pub fn native(engine: EngineKind, guest: GuestArch) -> &'static [&'static str] {
    match (engine, guest) {
        // User-mode Linux has no 32-bit system calls.
        (EngineKind::Uml, _) => &["amd64"],
        (_, GuestArch::X86_64) => &["amd64", "386"],
        (_, GuestArch::Aarch64) => &["arm64"],
    }
}

/// `GOARCH` of the machine that hull was built for.
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn plan(engine: EngineKind, guest: GuestArch, image: &str) -> Plan {
    Plan {
        engine,
        guest,
        user_emulation: !native(engine, guest).contains(&image),
    }
}

fn machine(architecture: &str) -> Option<GuestArch> {
    match architecture {
        "amd64" | "386" => Some(GuestArch::X86_64),
        "arm64" => Some(GuestArch::Aarch64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DispatchError as E;
    use Emulation::{System, User};
    use EngineKind::{Tcg, Uml};
    use GuestArch::{Aarch64, X86_64};

    type Row = (
        &'static str,
        &'static str,
        Option<EngineKind>,
        Option<Emulation>,
        Result<(EngineKind, GuestArch, bool), DispatchError>,
    );

    #[test]
    fn the_table_holds() {
        let table: Vec<Row> = vec![
            ("amd64", "amd64", None, None, Ok((Uml, X86_64, false))),
            ("amd64", "arm64", None, None, Ok((Uml, X86_64, true))),
            ("amd64", "386", None, None, Ok((Uml, X86_64, true))),
            ("amd64", "s390x", None, Some(User), Ok((Uml, X86_64, true))),
            (
                "amd64",
                "arm64",
                None,
                Some(System),
                Ok((Tcg, Aarch64, false)),
            ),
            (
                "amd64",
                "amd64",
                None,
                Some(System),
                Ok((Tcg, X86_64, false)),
            ),
            ("amd64", "arm64", Some(Tcg), None, Ok((Tcg, Aarch64, false))),
            (
                "amd64",
                "arm64",
                Some(Tcg),
                Some(User),
                Ok((Tcg, X86_64, true)),
            ),
            ("amd64", "386", Some(Tcg), None, Ok((Tcg, X86_64, false))),
            ("amd64", "riscv64", Some(Tcg), None, Ok((Tcg, X86_64, true))),
            (
                "amd64",
                "arm64",
                Some(Uml),
                Some(System),
                Err(E::SystemNeedsTcg(Uml)),
            ),
            (
                "amd64",
                "riscv64",
                None,
                Some(System),
                Err(E::NoMachine("riscv64".into())),
            ),
            (
                "amd64",
                "mips",
                None,
                None,
                Err(E::UnknownArchitecture("mips".into())),
            ),
            ("arm64", "arm64", None, None, Ok((Tcg, Aarch64, false))),
            ("arm64", "amd64", None, None, Ok((Tcg, X86_64, false))),
            ("arm64", "amd64", None, Some(User), Ok((Tcg, Aarch64, true))),
            (
                "arm64",
                "arm64",
                Some(Uml),
                None,
                Err(E::UmlHost("arm64".into())),
            ),
            (
                "riscv64",
                "amd64",
                None,
                None,
                Err(E::Host("riscv64".into())),
            ),
        ];
        for (host, image, engine, emulation, want) in table {
            let got = choose(&Question {
                host,
                image,
                engine,
                emulation,
                isolation: Isolation::Any,
                kvm: Err("no".to_owned()),
            });
            let got = got.map(|plan| (plan.engine, plan.guest, plan.user_emulation));
            assert_eq!(got, want, "{host} {image} {engine:?} {emulation:?}");
        }
    }

    #[test]
    fn kvm_is_the_default_where_it_works() {
        let ask = |engine, emulation, isolation, kvm: bool| {
            let question = Question {
                host: "amd64",
                image: "arm64",
                engine,
                emulation,
                isolation,
                kvm: if kvm {
                    Ok("yes".into())
                } else {
                    Err("no".into())
                },
            };
            choose(&question).map(|plan| (plan.engine, plan.guest, plan.user_emulation))
        };
        let (any, hardware) = (Isolation::Any, Isolation::Hardware);
        let native = Ok((EngineKind::Kvm, X86_64, true));
        let board = Question {
            host: "arm64",
            image: "amd64",
            engine: None,
            emulation: None,
            isolation: hardware,
            kvm: Ok("yes".into()),
        };
        let translated = Plan {
            engine: EngineKind::Kvm,
            guest: Aarch64,
            user_emulation: true,
        };
        assert_eq!(choose(&board), Ok(translated));
        assert_eq!(ask(None, None, any, true), native);
        assert_eq!(ask(None, None, hardware, true), native);
        assert_eq!(ask(None, Some(User), Isolation::Kernel, true), native);
        assert_eq!(ask(Some(Uml), None, any, true), Ok((Uml, X86_64, true)));
        assert_eq!(
            ask(None, Some(System), any, true),
            Ok((Tcg, Aarch64, false))
        );
        let kvm = Some(EngineKind::Kvm);
        assert_eq!(ask(kvm, None, any, false), Err(E::NoKvm("no".into())));
        assert_eq!(
            ask(kvm, Some(System), any, true),
            Err(E::SystemNeedsTcg(EngineKind::Kvm))
        );
        let weak = |engine, why: Option<&str>| {
            Err(E::TooWeak {
                engine,
                why: why.map(str::to_owned),
            })
        };
        assert_eq!(ask(None, None, hardware, false), weak(Uml, Some("no")));
        assert_eq!(ask(Some(Uml), None, hardware, true), weak(Uml, None));
        assert_eq!(ask(None, Some(System), hardware, true), weak(Tcg, None));
    }
}
