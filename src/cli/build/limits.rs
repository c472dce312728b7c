//! Docker's flags about the limits of commands, and those that change nothing here.

use crate::cli::container::ProcessorFlags;
use crate::container::options;
use crate::container::record::Config;

/// Limits of commands, and what changes nothing.
#[derive(Debug, clap::Args)]
pub struct Limits {
    #[command(flatten)]
    processors: ProcessorFlags,
    /// A resource limit of commands, as in nofile=1024:4096
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// no-new-privileges; what turns a profile off changes nothing
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Changes nothing: the group of a machine is where hull puts it
    #[arg(long, value_name = "NAME")]
    cgroup_parent: Option<String>,
    /// Changes nothing: a guest has no swap
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Changes nothing: the context is not sent anywhere
    #[arg(long)]
    compress: bool,
    /// Changes nothing
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_content_trust: Option<bool>,
    /// Changes nothing: nothing of a step but its image stays
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rm: Option<bool>,
    /// Changes nothing: nothing of a step but its image stays
    #[arg(long)]
    force_rm: bool,
    /// Changes nothing: the image is always put into the store
    #[arg(long)]
    load: bool,
}

impl Limits {
    /// Puts what was said into the guests' configuration; sentences on what changes nothing.
    pub fn apply(&self, config: &mut Config) -> anyhow::Result<Vec<String>> {
        config.cpuset = self.processors.cpuset()?;
        config.processors = self.processors.asked()?;
        config.cpus = config.processors.whole()?.unwrap_or(config.cpus);
        config.no_new_privileges = options::no_new_privileges(&self.security_opt)?;
        for spec in &self.ulimit {
            config.ulimits.push(crate::cli::container::ulimit(spec)?);
        }
        let given = [
            (
                self.cgroup_parent.is_some(),
                "--cgroup-parent",
                "the group of a machine is where hull puts it",
            ),
            (
                self.memory_swap.is_some(),
                "--memory-swap",
                "a guest has no swap",
            ),
        ];
        let told = given.iter().filter(|(given, _, _)| *given);
        Ok(told
            .map(|(_, option, why)| format!("{option} changes nothing: {why}"))
            .collect())
    }
}
