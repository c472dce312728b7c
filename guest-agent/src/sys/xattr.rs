//! Extended attributes, of symlinks themselves too.

use std::ffi::{CStr, CString};
use std::ptr;

use nix::errno::Errno;

/// The names of a file's attributes; empty where the file system has none.
pub fn list(path: &CStr) -> nix::Result<Vec<CString>> {
    // SAFETY: a null buffer of length zero asks for the size.
    let size = Errno::result(unsafe { libc::llistxattr(path.as_ptr(), ptr::null_mut(), 0) });
    let size = match size {
        Ok(0) | Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
        other => other? as usize,
    };
    let mut names = vec![0u8; size];
    // SAFETY: the buffer has the length that is passed and outlives the call.
    let len = Errno::result(unsafe {
        libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len())
    })?;
    names.truncate(len as usize);
    let names = names.split(|b| *b == 0).filter(|n| !n.is_empty());
    Ok(names.filter_map(|n| CString::new(n).ok()).collect())
}

/// The value of one attribute.
pub fn get(path: &CStr, name: &CStr) -> nix::Result<Vec<u8>> {
    // The kernel's own limit of a value is 64 KiB.
    let mut value = vec![0u8; 64 << 10];
    // SAFETY: the buffer has the length that is passed; all pointers outlive the call.
    let len = Errno::result(unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    })?;
    value.truncate(len as usize);
    Ok(value)
}

/// Sets one attribute.
#[cfg(test)]
pub fn set(path: &CStr, name: &CStr, value: &[u8]) -> nix::Result<()> {
    // SAFETY: the value has the length that is passed; all pointers outlive the call.
    Errno::result(unsafe {
        let (value, len) = (value.as_ptr().cast(), value.len());
        libc::lsetxattr(path.as_ptr(), name.as_ptr(), value, len, 0)
    })?;
    Ok(())
}
