//! What long work tells about itself.

/// How far one layer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Known, not begun.
    Queued,
    /// Somebody else is fetching it.
    Waiting,
    /// Bytes that arrived, of how many.
    Downloading(u64, u64),
    /// The connection broke; another attempt begins.
    Retrying,
    /// All bytes are here and the layer is in the store.
    PullComplete,
    /// It was in the store already.
    AlreadyExists,
    /// To be sent.
    Preparing,
    /// Bytes that were sent, of how many.
    Pushing(u64, u64),
    /// The registry has it now.
    Pushed,
    /// The registry had it already.
    LayerExists,
}

impl Step {
    /// The words that docker uses.
    pub fn text(self) -> &'static str {
        match self {
            Self::Queued => "Pulling fs layer",
            Self::Waiting => "Waiting",
            Self::Downloading(..) => "Downloading",
            Self::Retrying => "Retrying",
            Self::PullComplete => "Pull complete",
            Self::AlreadyExists => "Already exists",
            Self::Preparing => "Preparing",
            Self::Pushing(..) => "Pushing",
            Self::Pushed => "Pushed",
            Self::LayerExists => "Layer already exists",
        }
    }

    /// Whether nothing follows.
    pub fn is_last(self) -> bool {
        matches!(
            self,
            Self::PullComplete | Self::AlreadyExists | Self::Pushed | Self::LayerExists
        )
    }
}

/// Who wants to know; called from several threads at once.
pub trait Progress: Sync {
    /// A sentence about the whole.
    fn line(&self, text: &str);
    /// A layer, by its shortened digest, took a step.
    fn layer(&self, layer: &str, step: Step);
}

/// Nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn line(&self, _text: &str) {}
    fn layer(&self, _layer: &str, _step: Step) {}
}
