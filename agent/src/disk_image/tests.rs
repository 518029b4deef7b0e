use super::*;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::disk_image::CHUNK;
use leaseboot_protocol::settings::Blob;
use std::net::SocketAddr;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MIB: usize = 1 << 20;

/// Bytes that no compressor shrinks, the same in each run (xorshift64).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

/// Two pieces of stream: a beginning, zeros, noise, zeros up to an end that is no whole block.
fn image() -> Vec<u8> {
    let mut image = vec![0xaa; MIB];
    image.resize(3 * MIB, 0);
    image.extend(noise(5 * MIB + 512));
    image.resize(10 * MIB + 512, 0);
    image
}

fn list(stream: &[u8]) -> ChunkList {
    let digests: Vec<u8> = stream
        .chunks(CHUNK)
        .flat_map(|chunk| *Sha256::of(chunk).as_bytes())
        .collect();
    ChunkList::read(&digests, stream.len() as u64).unwrap()
}

/// A disk of 16 MiB that was somebody else's.
fn disk(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("disk");
    std::fs::write(&path, vec![0x55; 16 * MIB]).unwrap();
    path
}

async fn write_to(
    path: &Path,
    stream: &[u8],
    list: ChunkList,
    size: usize,
) -> Result<(Target, Box<[u8; HEAD]>), ImageError> {
    let target = Target::file(path, 16 << 20);
    let (pieces, received) = mpsc::channel(PIECES_UNDER_WAY);
    let writer = tokio::task::spawn_blocking(move || writer::run(target, &list, size as u64, received));
    for piece in stream.chunks(CHUNK) {
        if pieces.send(piece.to_vec()).await.is_err() {
            break;
        }
    }
    drop(pieces);
    writer.await.unwrap()
}

#[tokio::test]
async fn zeros_are_zeros_the_rest_is_written_and_the_beginning_is_held_back() {
    let folder = tempfile::tempdir().unwrap();
    let (image, path) = (image(), disk(folder.path()));
    let stream = zstd::encode_all(&image[..], 1).unwrap();
    assert!(stream.len() > CHUNK, "one piece only");
    let (_, head) = write_to(&path, &stream, list(&stream), image.len())
        .await
        .unwrap();
    assert_eq!(head[..], image[..MIB]);
    let found = std::fs::read(&path).unwrap();
    assert!(
        found[..MIB].iter().all(|byte| *byte == 0),
        "the beginning is on the disk"
    );
    assert!(
        found[MIB..image.len()] == image[MIB..],
        "the image is not what it was"
    );
    // What is behind the image is nobody's; the end of the disk, where a table's copy could be, is zeroed.
    assert!(found[15 * MIB..].iter().all(|byte| *byte == 0));
}

#[tokio::test]
async fn a_flipped_byte_in_any_piece_is_refused_and_the_disk_does_not_boot() {
    let (image, folder) = (image(), tempfile::tempdir().unwrap());
    let stream = zstd::encode_all(&image[..], 1).unwrap();
    for at in [0, CHUNK + 7, stream.len() - 1] {
        let path = disk(folder.path());
        let mut tampered = stream.clone();
        tampered[at] ^= 1;
        let refused = write_to(&path, &tampered, list(&stream), image.len()).await;
        assert!(
            matches!(refused, Err(ImageError::Digest { number }) if number == at / CHUNK),
            "byte {at}"
        );
        let found = std::fs::read(&path).unwrap();
        assert!(found[..MIB].iter().all(|byte| *byte == 0), "byte {at}");
    }
}

#[tokio::test]
async fn an_image_of_another_length_than_promised_is_refused() {
    let (image, folder) = (image(), tempfile::tempdir().unwrap());
    let stream = zstd::encode_all(&image[..], 1).unwrap();
    for promised in [image.len() - 512, image.len() + 512] {
        let path = disk(folder.path());
        let refused = write_to(&path, &stream, list(&stream), promised).await;
        assert!(matches!(refused, Err(ImageError::Length { .. })), "{promised}");
    }
    // A stream that ends in the middle.
    let cut = &stream[..CHUNK];
    let refused = write_to(&disk(folder.path()), cut, list(&stream), image.len()).await;
    assert!(matches!(refused, Err(ImageError::Length { .. })));
}

/// Serves `content` once per connection, cutting each answer after `cut` bytes; honours ranges.
async fn serve(content: Vec<u8>, cut: usize) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 2048];
            let length = stream.read(&mut request).await.unwrap();
            let text = String::from_utf8_lossy(&request[..length]).to_lowercase();
            let from = text
                .split("range: bytes=")
                .nth(1)
                .and_then(|rest| rest.split('-').next()?.parse().ok());
            let (from, all) = (from.unwrap_or(0usize), content.len());
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {from}-{}/{all}\r\ncontent-length: {}\r\n\r\n",
                all - 1,
                all - from
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&content[from..(from + cut).min(all)]).await;
        }
    });
    address
}

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_broke() {
    let content = noise(CHUNK * 2 + 100);
    let gateway = Gateway::new(serve(content.clone(), CHUNK - 1000).await);
    let blob = |size: usize| Blob {
        path: "/v1/image/disk".into(),
        size: size as u64,
        sha256: Sha256::of(b""),
    };
    let image = DiskImage {
        stream: blob(content.len()),
        chunks: blob(96),
        size: 0,
    };
    let (pieces, mut received) = mpsc::channel(8);
    stream::run(gateway, &image, pieces, &Progress::silent())
        .await
        .unwrap();
    let mut found = Vec::new();
    while let Some(piece) = received.recv().await {
        found.push(piece);
    }
    assert_eq!(
        found.iter().map(Vec::len).collect::<Vec<_>>(),
        [CHUNK, CHUNK, 100]
    );
    assert!(found.concat() == content);
}
