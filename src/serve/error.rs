//! Errors as docker's clients expect them: a status and `{"message": …}`.

use hyper::StatusCode;

use crate::container::client::ClientError;
use crate::container::commit::CommitError;
use crate::container::copy::CopyError;
use crate::container::create::CreateError;
use crate::container::files::FilesError;
use crate::container::filter::FilterError;
use crate::container::guest::GuestError;
use crate::container::launch::LaunchError;
use crate::container::lifecycle::LifecycleError;
use crate::container::update::UpdateError;
use crate::image::ImageError;
use crate::sentence::sentence;
use crate::store::StoreError;

/// What a client is told.
#[derive(Debug)]
pub struct ApiError {
    /// The status of the answer.
    pub status: StatusCode,
    /// One sentence.
    pub message: String,
    /// The exit code that a command line would have.
    pub code: i32,
}

impl ApiError {
    /// An error with a status of its own.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            code: 1,
        }
    }

    /// The request cannot be understood.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// No such thing.
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// The thing's state does not allow it.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// Docker has it, hull has not.
    pub fn not_there(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("{what} is not there in hull"),
        )
    }

    /// It went wrong.
    pub fn broken(error: impl Into<anyhow::Error>) -> Self {
        let message = sentence(&error.into());
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    fn with(status: StatusCode, error: impl Into<anyhow::Error>) -> Self {
        Self::new(status, sentence(&error.into()))
    }
}

/// What an exit code of docker's command line says about whose fault it was.
fn of_exit_code(code: i32) -> StatusCode {
    match code {
        126 | 127 => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::broken(error)
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        Self::broken(error)
    }
}

/// Errors without a type of their own are about values that the client gave.
impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        Self::bad(sentence(&error))
    }
}

impl From<LifecycleError> for ApiError {
    fn from(error: LifecycleError) -> Self {
        let status = match error {
            LifecycleError::Client(error) => return error.into(),
            LifecycleError::NotFound(_) => StatusCode::NOT_FOUND,
            LifecycleError::Ambiguous(_) | LifecycleError::Signal(_) => StatusCode::BAD_REQUEST,
            LifecycleError::Running(_)
            | LifecycleError::NotRunning(_)
            | LifecycleError::Paused(_)
            | LifecycleError::Restarting(_)
            | LifecycleError::State(_) => StatusCode::CONFLICT,
            LifecycleError::Stuck(_) | LifecycleError::Store(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::with(status, error)
    }
}

impl From<ClientError> for ApiError {
    fn from(error: ClientError) -> Self {
        let status = match &error {
            ClientError::NotRunning(_) => StatusCode::CONFLICT,
            // What a supervisor refuses with 1 does not fit the container's state.
            ClientError::Refused { code: 1, .. } => StatusCode::CONFLICT,
            error => of_exit_code(error.exit_code()),
        };
        Self::with(status, error)
    }
}

impl From<GuestError> for ApiError {
    fn from(error: GuestError) -> Self {
        Self::with(of_exit_code(error.exit_code()), error)
    }
}

impl From<LaunchError> for ApiError {
    fn from(error: LaunchError) -> Self {
        let status = match &error {
            LaunchError::NoImage { .. } | LaunchError::Gone(_) => StatusCode::NOT_FOUND,
            LaunchError::StillEnding(_) | LaunchError::Dead(_) => StatusCode::CONFLICT,
            LaunchError::Dispatch(_) | LaunchError::Engine(_) | LaunchError::Platform(_) => {
                StatusCode::BAD_REQUEST
            }
            error => of_exit_code(error.exit_code()),
        };
        Self::with(status, error)
    }
}

impl From<FilesError> for ApiError {
    fn from(error: FilesError) -> Self {
        match error {
            FilesError::Client(error) => error.into(),
            FilesError::Launch(error) => error.into(),
            FilesError::Guest(error) => error.into(),
            error => Self::broken(error),
        }
    }
}

impl From<CopyError> for ApiError {
    fn from(error: CopyError) -> Self {
        let status = match error {
            CopyError::Files(error) => return error.into(),
            CopyError::NotInContainer { .. } => StatusCode::NOT_FOUND,
            CopyError::ArchiveTarget(_) | CopyError::NotDirectory(_) | CopyError::OverFile(_) => {
                StatusCode::BAD_REQUEST
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::with(status, error)
    }
}

impl From<CreateError> for ApiError {
    fn from(error: CreateError) -> Self {
        let status = match error {
            CreateError::NameTaken { .. } => StatusCode::CONFLICT,
            CreateError::Connect(_) => StatusCode::NOT_FOUND,
            CreateError::Store(_) | CreateError::Random(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::with(status, error)
    }
}

impl From<UpdateError> for ApiError {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Value(error) => error.into(),
            UpdateError::Processors(_) => Self::with(StatusCode::BAD_REQUEST, error),
            UpdateError::Client(error) => error.into(),
            UpdateError::Store(error) => error.into(),
        }
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        match error {
            FilterError::Store(error) => error.into(),
            FilterError::Container(error) => error.into(),
            error => Self::with(StatusCode::BAD_REQUEST, error),
        }
    }
}

impl From<CommitError> for ApiError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::NoImage(_) => Self::with(StatusCode::NOT_FOUND, error),
            CommitError::Files(error) => error.into(),
            CommitError::Client(error) => error.into(),
            CommitError::Image(error) => error.into(),
        }
    }
}

impl From<ImageError> for ApiError {
    fn from(error: ImageError) -> Self {
        let status = match &error {
            ImageError::NotFound(_) | ImageError::NoTag(_) | ImageError::NoSuchPlatform { .. } => {
                StatusCode::NOT_FOUND
            }
            ImageError::Usage(_)
            | ImageError::Reference(_)
            | ImageError::Platform(_)
            | ImageError::Archive(_)
            | ImageError::Ambiguous { .. } => StatusCode::BAD_REQUEST,
            ImageError::Conflict(_) => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::with(status, error)
    }
}
