//! Images: what a registry or an archive holds, and how a guest gets to read it.

pub mod archive;
pub mod assemble;
pub mod change;
mod commit;
pub mod convert;
pub mod digest;
pub mod erofs;
mod error;
mod filter;
mod history;
mod inspect;
pub mod layer;
pub mod layout;
mod local;
mod login;
pub mod manifest;
mod names;
mod parallel;
mod progress;
mod prune;
mod pull;
mod push;
pub mod reference;
pub mod registry;
mod stack;
mod view;

pub use commit::{Commit, commit};
pub use error::ImageError;
pub use filter::{Filter, created, shown};
pub use history::{HistoryStep, history};
pub use inspect::inspect_value;
pub use local::{Image, find, get, list, load, not_found};
pub use login::{check_login, login, login_again, logout, registry_named};
pub use names::{Removed, User, Users, local_tags, remove, tag};
pub use progress::{Progress, Silent, Step};
pub use prune::{Budget, Pruned, prune, prune_builds, shrink_builds};
pub use pull::{PullPolicy, Pulled, ensure, index, pull, pull_as, pull_nameless, tags, tags_as};
pub use push::{push, push_as, push_index};
pub use reference::Reference;
pub use stack::{Stacked, stack};
pub use view::{Content, Node as ViewNode, View};

#[cfg(test)]
pub(crate) mod tests;
