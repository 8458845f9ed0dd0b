//! Header fields as bytes: their number (2), then each as its name's number (1; 0: the name is spelled out, behind its length, 2), its
//! value's length (4) and the value.

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, AGE, ALT_SVC, CACHE_CONTROL,
    CACHE_STATUS, CDN_CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
    CONTENT_LOCATION, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, DATE, ETAG, EXPIRES, HeaderMap, HeaderName,
    HeaderValue, LAST_MODIFIED, LINK, LOCATION, PRAGMA, REFERRER_POLICY, RETRY_AFTER, SERVER,
    STRICT_TRANSPORT_SECURITY, VARY, VIA, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

use super::super::bans::Reader;

/// From number 1 on. One that moved would become another: new ones come last. Read, they need no look at their letters.
static NAMES: [HeaderName; 35] = [
    ACCEPT_RANGES,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
    AGE,
    ALT_SVC,
    CACHE_CONTROL,
    CACHE_STATUS,
    CDN_CACHE_CONTROL,
    CONTENT_DISPOSITION,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    CONTENT_SECURITY_POLICY,
    CONTENT_TYPE,
    DATE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    LINK,
    LOCATION,
    PRAGMA,
    REFERRER_POLICY,
    RETRY_AFTER,
    SERVER,
    STRICT_TRANSPORT_SECURITY,
    VARY,
    VIA,
    X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
];
/// The least a field takes.
const FIELD_BYTES_MIN: usize = 5;

/// None where they cannot be written.
pub(super) fn put(bytes: &mut Vec<u8>, headers: &HeaderMap) -> Option<()> {
    bytes.extend(u16::try_from(headers.len()).ok()?.to_le_bytes());
    for (name, value) in headers {
        match NAMES.iter().position(|known| known == name) {
            Some(at) => bytes.push(at as u8 + 1),
            None => {
                bytes.push(0);
                bytes.extend(u16::try_from(name.as_str().len()).ok()?.to_le_bytes());
                bytes.extend(name.as_str().as_bytes());
            }
        }
        bytes.extend(u32::try_from(value.len()).ok()?.to_le_bytes());
        bytes.extend(value.as_bytes());
    }
    Some(())
}

/// Their values are slices of `whole`, in which `fields` lie. None: these are none.
pub(super) fn take(whole: &Bytes, fields: &mut Reader<'_>) -> Option<HeaderMap> {
    let count = usize::from(fields.u16()?);
    // A number alone reserves nothing.
    let mut headers = HeaderMap::try_with_capacity(count.min(fields.0.len() / FIELD_BYTES_MIN)).ok()?;
    for _ in 0..count {
        let name = match usize::from(fields.u8()?) {
            0 => {
                let bytes = fields.u16()?;
                HeaderName::from_bytes(fields.take(usize::from(bytes))?).ok()?
            }
            number => NAMES.get(number - 1)?.clone(),
        };
        let bytes = fields.u32()?;
        let value = HeaderValue::from_maybe_shared(whole.slice_ref(fields.take(bytes as usize)?)).ok()?;
        headers.try_append(name, value).ok()?;
    }
    Some(headers)
}
