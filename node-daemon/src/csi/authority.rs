//! Lets in clients that give the socket's path as HTTP/2 `:authority`.
//!
//! kubelet does so when it asks a plugin for its registration (and, up to 1.25, when it calls CSI): grpc-go derives
//! `%2Fvar%2Flib%2F...` from the path that it dials, which is no valid authority (RFC 3986), and the `h2` crate refuses the request as
//! a protocol error before any of our code sees it. <https://github.com/kubernetes/kubernetes/issues/109081>,
//! <https://github.com/hyperium/h2/pull/487>
//!
//! So what a client sends is looked through, and the value of `:authority` replaced by `localhost`. HPACK (RFC 7541) need not be decoded
//! for that: where a field's value is given literally, its name is a number (1 is `:authority`) and its length comes first. Requests
//! that refer to the value by index get the replaced one, since the server's table holds that. Everything else passes as it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Index of `:authority` in HPACK's static table.
const AUTHORITY: usize = 1;
const REPLACEMENT: &[u8] = b"localhost";

/// A connection whose incoming side is looked through.
pub struct Tolerant<S> {
    inner: S,
    rewriter: Rewriter,
    chunk: Box<[u8]>,
}

impl<S> Tolerant<S> {
    /// Wraps a fresh connection.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            rewriter: Rewriter::default(),
            chunk: vec![0; 16 * 1024].into_boxed_slice(),
        }
    }
}

impl<S> Connected for Tolerant<S> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl<S: AsyncRead + Unpin> AsyncRead for Tolerant<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.rewriter.ready.is_empty() {
            let mut chunk = ReadBuf::new(&mut this.chunk);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                // The end. What was not a whole frame is of no use to anybody.
                return Poll::Ready(Ok(()));
            }
            this.rewriter.feed(chunk.filled());
        }
        let n = this.rewriter.ready.len().min(buf.remaining());
        buf.put_slice(&this.rewriter.ready[..n]);
        this.rewriter.ready.drain(..n);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tolerant<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Takes bytes in pieces of any size, gives out whole frames.
#[derive(Debug, Default)]
struct Rewriter {
    past_preface: bool,
    /// Less than a frame. A frame is at most 16 MiB; the server, which allows 16 KiB, ends the connection at a larger one.
    waiting: Vec<u8>,
    /// To be read.
    ready: Vec<u8>,
}

impl Rewriter {
    fn feed(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
        loop {
            let whole = if self.past_preface {
                frame_length(&self.waiting)
            } else {
                Some(PREFACE)
            };
            let Some(whole) = whole.filter(|whole| *whole <= self.waiting.len()) else {
                return;
            };
            let rest = self.waiting.split_off(whole);
            let frame = std::mem::replace(&mut self.waiting, rest);
            if self.past_preface {
                self.ready.extend(rewrite(&frame).unwrap_or(frame));
            } else {
                self.past_preface = true;
                self.ready.extend(frame);
            }
        }
    }
}

/// Length of the frame that begins here, with its header; `None` if that can't be told yet.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(..3)?;
    Some(
        FRAME_HEADER
            + (usize::from(length[0]) << 16 | usize::from(length[1]) << 8 | usize::from(length[2])),
    )
}

/// The frame with another `:authority`; `None` if it is to stay as it is.
fn rewrite(frame: &[u8]) -> Option<Vec<u8>> {
    let (header, payload) = frame.split_at_checked(FRAME_HEADER)?;
    let (kind, flags) = (header[3], header[4]);
    if kind != HEADERS || flags & END_HEADERS == 0 {
        return None;
    }
    let (padding, begin) = if flags & PADDED == 0 {
        (0, 0)
    } else {
        (usize::from(*payload.first()?), 1)
    };
    let begin = begin + if flags & PRIORITY == 0 { 0 } else { 5 };
    let end = payload.len().checked_sub(padding)?;
    let block = payload.get(begin..end)?;
    let value = authority_value(block)?;
    let mut new = payload[..begin + value.start].to_vec();
    new.push(u8::try_from(REPLACEMENT.len()).ok()?);
    new.extend_from_slice(REPLACEMENT);
    new.extend_from_slice(&payload[begin + value.end..]);
    let mut out = u32::try_from(new.len()).ok()?.to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&header[3..]);
    out.extend(new);
    Some(out)
}

/// Where in a block of HPACK fields the literal value of `:authority` is, with its length.
fn authority_value(block: &[u8]) -> Option<std::ops::Range<usize>> {
    let mut at = 0;
    while let Some(&first) = block.get(at) {
        // The first bits tell what follows, the rest begins a number.
        let (prefix, has_value) = match first {
            0x80.. => (7, false),
            0x40..=0x7f => (6, true),
            0x20..=0x3f => (5, false),
            0x00..=0x1f => (4, true),
        };
        let (index, next) = number(block, at, prefix)?;
        at = next;
        if has_value {
            if index == 0 {
                at = after_text(block, at)?;
            }
            let end = after_text(block, at)?;
            if index == AUTHORITY {
                return Some(at..end);
            }
            at = end;
        }
    }
    None
}

fn after_text(block: &[u8], at: usize) -> Option<usize> {
    let (length, begin) = number(block, at, 7)?;
    begin.checked_add(length).filter(|end| *end <= block.len())
}

/// An HPACK number whose first byte has `prefix` bits of it, and where it ends.
fn number(block: &[u8], at: usize, prefix: u32) -> Option<(usize, usize)> {
    let most = (1_usize << prefix) - 1;
    let mut value = usize::from(*block.get(at)?) & most;
    let mut at = at + 1;
    if value < most {
        return Some((value, at));
    }
    for shift in (0..28).step_by(7) {
        let byte = *block.get(at)?;
        at += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    fn a_frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// As grpc-go writes them: `:method POST`, `:scheme http`, `:path` new, `:authority` new, `te: trailers` new by name.
    fn some_fields(authority: &[u8]) -> Vec<u8> {
        let mut block = vec![0x83, 0x86, 0x44, 2, b'/', b'x', 0x41];
        block.push(u8::try_from(authority.len()).unwrap());
        block.extend_from_slice(authority);
        block.extend_from_slice(&[0x40, 2, b't', b'e', 8]);
        block.extend_from_slice(b"trailers");
        block
    }

    #[test]
    fn only_the_value_of_authority_changes() {
        let from = some_fields(b"%2Fvar%2Flib%2Fx.sock");
        let to = some_fields(b"localhost");
        assert_eq!(
            rewrite(&a_frame(HEADERS, END_HEADERS, &from)).unwrap(),
            a_frame(HEADERS, END_HEADERS, &to)
        );

        let around = |block: &[u8]| [&[2, 0, 0, 0, 0, 7], block, &[0, 0]].concat();
        let flags = END_HEADERS | PADDED | PRIORITY;
        let padded = rewrite(&a_frame(HEADERS, flags, &around(&from))).unwrap();
        assert_eq!(padded, a_frame(HEADERS, flags, &around(&to)));
    }

    #[test]
    fn a_long_value_has_its_length_in_two_bytes() {
        let mut block = vec![0x41, 0xff, 0x49];
        block.extend(vec![b'x'; 200]);
        block.push(0x86);
        assert_eq!(authority_value(&block), Some(1..203));
    }

    #[test]
    fn what_has_no_literal_authority_stays() {
        let fields = some_fields(b"x");
        assert_eq!(rewrite(&a_frame(0, 1, &fields)), None, "data");
        assert_eq!(
            rewrite(&a_frame(HEADERS, 0, &fields)),
            None,
            "goes on in another frame"
        );
        assert_eq!(
            rewrite(&a_frame(HEADERS, END_HEADERS, &[0x83, 0x86, 0xbe])),
            None,
            "by index"
        );
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same_and_nothing_panics(
            frames in proptest::collection::vec((0..10_u8, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..8),
            sizes in proptest::collection::vec(1..40_usize, 1..20),
        ) {
            let mut bytes = vec![b'P'; PREFACE];
            for (kind, flags, payload) in frames {
                bytes.extend(a_frame(kind, flags, &payload));
            }
            let mut whole = Rewriter::default();
            whole.feed(&bytes);
            let mut pieces = Rewriter::default();
            let mut rest = bytes.as_slice();
            for size in sizes.iter().cycle() {
                let (piece, more) = rest.split_at((*size).min(rest.len()));
                pieces.feed(piece);
                rest = more;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(whole.ready, pieces.ready);
            prop_assert!(whole.waiting.is_empty());
        }
    }

    #[tokio::test]
    async fn a_reader_gets_it_all_in_small_reads() {
        let mut bytes = vec![b'P'; PREFACE];
        bytes.extend(a_frame(HEADERS, END_HEADERS, &some_fields(b"%2Fa")));
        let mut expected = vec![b'P'; PREFACE];
        expected.extend(a_frame(HEADERS, END_HEADERS, &some_fields(b"localhost")));
        let mut reader = Tolerant::new(bytes.as_slice());
        let mut got = Vec::new();
        let mut one = [0; 1];
        while reader.read(&mut one).await.unwrap() == 1 {
            got.push(one[0]);
        }
        assert_eq!(got, expected);
    }
}
