//! The `platform` parameter of saving, loading and pushing: a JSON object as clients of API 1.48 send it, or `os/architecture`.

use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::image::manifest::{InvalidPlatform, Platform};

/// # Errors
/// What is no platform.
pub(super) fn parse(params: &Params) -> ApiResult<Option<Platform>> {
    let Some(text) = params.text("platform") else { return Ok(None) };
    let invalid = |reason: String| ApiError::invalid(format!("invalid platform: {reason}"));
    if !text.starts_with('{') {
        return text.parse().map(Some).map_err(|error: InvalidPlatform| invalid(error.to_string()));
    }
    let platform: Platform = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
    if platform.os.is_empty() || platform.architecture.is_empty() {
        return Err(invalid("os and architecture must be given".to_owned()));
    }
    Ok(Some(platform))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_one_platform_and_half_of_one_is_refused() {
        let parse = |text: &str| {
            let params: Params = [("platform".to_owned(), text.to_owned())].into_iter().collect();
            parse(&params)
        };
        let object = parse(r#"{"os":"linux","architecture":"arm64"}"#).unwrap();
        assert_eq!(object, parse("linux/arm64").unwrap());
        assert_eq!(object.unwrap().architecture, "arm64");
        for wrong in ["{", r#"{"os":"linux"}"#, "linux/", "[]"] {
            assert_eq!(parse(wrong).unwrap_err().status, 400, "{wrong}");
        }
        assert_eq!(parse(""), Ok(None));
    }
}
