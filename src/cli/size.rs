//! Sizes as people write them.

/// Reads a number of bytes, such as `512MiB` or `2G`.
///
/// # Errors
/// Returns what is wrong with the text.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let size: bytesize::ByteSize = text.parse()?;
    if size.as_u64() == 0 {
        return Err("is nothing; write a size such as 512MiB".into());
    }
    Ok(size.as_u64())
}
