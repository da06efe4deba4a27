use super::study::Study;
use anyhow::Result;
pub fn page(_: &Study) -> Result<String> {
    Ok(String::new())
}
