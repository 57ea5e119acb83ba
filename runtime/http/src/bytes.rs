//! Bytes as an answer: whole, or a range of them (RFC 9110, section 14).
//!
//! Owns: reading `Range`, and streaming from whatever reads pieces. Knows nothing of what the bytes
//! are.

use std::ops::Range;

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
            IF_NONE_MATCH, RANGE,
        },
    },
    response::{IntoResponse, Response},
};
use futures_util::stream;
use hb_edge::{Problem, codes};
use tokio::task::block_in_place;

/// Which bytes are wanted of so many: one range, or all. More than one range is answered with all, as
/// the standard allows.
fn wanted(headers: &HeaderMap, len_bytes: u64) -> Result<Option<Range<u64>>, Problem> {
    let Some(text) = headers.get(RANGE).and_then(|value| value.to_str().ok()) else {
        return Ok(None);
    };
    let Some(spec) = text.strip_prefix("bytes=").filter(|spec| !spec.contains(',')) else {
        return Ok(None);
    };
    let Some((first, last)) = spec.split_once('-') else { return Ok(None) };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(len_bytes),
        (Some(first), None) if last.trim().is_empty() => first..len_bytes,
        (None, Some(count)) if first.trim().is_empty() => {
            len_bytes.saturating_sub(count)..len_bytes
        }
        _ => return Ok(None),
    };
    if range.is_empty() {
        let detail = format!("there are {len_bytes} bytes, the range {spec} holds none of them");
        let value = HeaderValue::from_str(&format!("bytes */{len_bytes}"));
        let value = value.expect("digits are a header value");
        return Err(
            Problem::new(&codes::RANGE_NOT_SATISFIABLE, detail).header(CONTENT_RANGE, value)
        );
    }
    Ok(Some(range))
}

/// What the bytes are called.
pub(crate) struct Named<'a> {
    /// Their BLAKE3 digest.
    pub digest: &'a str,
    /// A name for a file that they are saved to.
    pub file_name: &'a str,
    /// Their media type. A stranger's bytes are never given as anything that a browser runs.
    pub media_type: &'static str,
}

/// Answers with `len_bytes` bytes that `read` gives from an offset on, at least one at a time.
pub(crate) fn answer(
    headers: &HeaderMap,
    named: &Named<'_>,
    len_bytes: u64,
    read: impl FnMut(u64) -> Result<Vec<u8>, Problem> + Send + 'static,
) -> Result<Response, Problem> {
    let etag = format!("\"{}\"", named.digest);
    let same = headers.get(IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == etag.as_bytes());
    let header = |text: &str| HeaderValue::from_str(text).expect("the text is visible ASCII");
    if same {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, header(&etag))]).into_response());
    }
    let range = wanted(headers, len_bytes)?;
    let (status, range, content_range) = match range {
        None => (StatusCode::OK, 0..len_bytes, None),
        Some(range) => {
            let text = format!("bytes {}-{}/{len_bytes}", range.start, range.end - 1);
            (StatusCode::PARTIAL_CONTENT, range, Some(header(&text)))
        }
    };
    let len = range.end - range.start;
    let body = Body::from_stream(pieces(range, read));
    let mut response = (status, body).into_response();
    let answer = response.headers_mut();
    answer.insert(CONTENT_TYPE, HeaderValue::from_static(named.media_type));
    answer.insert(CONTENT_LENGTH, HeaderValue::from(len));
    answer.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer.insert(ETAG, header(&etag));
    answer.insert(CONTENT_DISPOSITION, header(&disposition(named.file_name)));
    if let Some(content_range) = content_range {
        answer.insert(CONTENT_RANGE, content_range);
    }
    Ok(response)
}

fn pieces(
    range: Range<u64>,
    read: impl FnMut(u64) -> Result<Vec<u8>, Problem> + Send + 'static,
) -> impl futures_util::Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static {
    stream::unfold((range, read), |(range, mut read)| async move {
        if range.is_empty() {
            return None;
        }
        let piece = block_in_place(|| read(range.start));
        let item = piece.map_err(|problem| std::io::Error::other(problem.detail().to_owned()));
        let item = item.and_then(|mut bytes| {
            let left = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            bytes.truncate(left);
            if bytes.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
        });
        // After an error the connection is cut: the length that was promised cannot be kept.
        let next = match &item {
            Ok(bytes) => range.start + bytes.len() as u64..range.end,
            Err(_) => range.end..range.end,
        };
        Some((item, (next, read)))
    })
}

/// A guest chose the name: what could end the quoted string or the header is left out.
fn disposition(file_name: &str) -> String {
    let name: String = file_name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !"\"\\/;%".contains(c) { c } else { '_' })
        .take(100)
        .collect();
    format!("attachment; filename=\"{name}\"")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(range: &str) -> Result<Option<Range<u64>>, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_str(range).unwrap());
        wanted(&headers, 100).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        assert_eq!(of("bytes=0-9"), Ok(Some(0..10)));
        assert_eq!(of("bytes=90-"), Ok(Some(90..100)));
        assert_eq!(of("bytes=-10"), Ok(Some(90..100)));
        assert_eq!(of("bytes=-1000"), Ok(Some(0..100)));
        assert_eq!(of("bytes=50-1000"), Ok(Some(50..100)));
        for all in ["bytes=9-3", "lines=0-1", "bytes=0-1,5-6", "bytes=a-b", "bytes=-", "x"] {
            assert_eq!(of(all), Ok(None), "{all}");
        }
        for none in ["bytes=100-", "bytes=200-300", "bytes=-0"] {
            assert_eq!(of(none), Err(416), "{none}");
        }
    }

    #[test]
    fn a_name_that_a_guest_chose_stays_inside_its_quotes() {
        let expected = "attachment; filename=\"a___x___b\"";
        assert_eq!(disposition("a\"; x\r\n/b"), expected);
    }
}
