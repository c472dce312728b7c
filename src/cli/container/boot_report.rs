//! What `run --trace-boot` prints.

use std::fmt;

use vmm::BootTrace;

/// A trace as people read it, and as scripts can: one fact a line.
pub struct BootReport<'a>(pub &'a BootTrace);

impl fmt::Display for BootReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trace = self.0;
        for step in &trace.steps {
            writeln!(
                f,
                "boot: {:9.3} ms  {}",
                milliseconds(step.after_us * 1000),
                step.what
            )?;
        }
        if trace.exits.is_empty() {
            writeln!(f, "boot: no exits: this engine's guest kernel is a process")?;
        } else {
            let sum: u64 = trace.exits.iter().map(|exit| exit.1).sum();
            writeln!(f, "boot: {sum} exits: {}", list(&trace.exits))?;
        }
        for uses in &trace.registers {
            writeln!(
                f,
                "boot: register {} {}: {} reads, {} writes",
                uses.device, uses.register, uses.reads, uses.writes
            )?;
        }
        writeln!(f, "boot: devices served: {}", list(&trace.events))?;
        writeln!(f, "boot: bytes copied: {}", list(&trace.copied))?;
        let own: u64 = trace.own.iter().map(|part| part.1).sum();
        write!(f, "boot: {:.3} ms CPU of its own", milliseconds(own))?;
        for (what, time) in &trace.own {
            write!(f, ", {what} {:.3}", milliseconds(*time))?;
        }
        writeln!(f, "; in KVM_RUN {:.3}", milliseconds(trace.running_ns))
    }
}

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

fn list(counts: &[(String, u64)]) -> String {
    let parts: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    parts.join(", ")
}
