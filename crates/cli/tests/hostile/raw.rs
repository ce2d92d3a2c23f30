//! A connection to a portal that keeps no promise: PDUs as one likes them.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use host::Options;
use iscsi::initiator::{Event, Initiator};
use iscsi::pdu::command::{Attribute, ScsiCommand};
use iscsi::pdu::data::{DataOut, ReadyToTransfer};
use iscsi::pdu::nop::NopOut;
use iscsi::pdu::{Header, NO_TAG, Opcode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

pub(crate) const BLOCK: u32 = 512;

/// A connection from one of the loopback addresses; None where it is refused at once.
pub(crate) async fn connect(source: [u8; 4], portal: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    let connected = tokio::time::timeout(Duration::from_secs(2), socket.connect(portal)).await;
    connected.ok()?.ok()
}

/// Send what the socket takes within the time; false: it was closed, or took no more.
pub(crate) async fn push(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    let sent = tokio::time::timeout(Duration::from_secs(5), stream.write_all(bytes)).await;
    matches!(sent, Ok(Ok(())))
}

/// A PDU with this data.
pub(crate) fn pdu(mut header: Header, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    header.0[5..8].copy_from_slice(&length[1..]);
    let mut bytes = header.0.to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A NOP-Out with data that asks for no answer.
pub(crate) fn silent_nop(data: &[u8]) -> Vec<u8> {
    let nop =
        NopOut { immediate: true, lun: 0, itt: NO_TAG, ttt: NO_TAG, cmd_sn: 1, exp_stat_sn: 0 };
    pdu(nop.encode(), data)
}

/// A session that was opened as it should be, and whose socket is ours from then on.
pub(crate) struct Session {
    pub(crate) stream: TcpStream,
    input: BytesMut,
    cmd_sn: u32,
}

impl Session {
    pub(crate) async fn open(portal: SocketAddr, options: Options) -> Option<Self> {
        let mut stream = connect([127, 0, 0, 9], portal).await?;
        let nonce = |bytes: &mut [u8]| bytes.iter_mut().for_each(|byte| *byte = 0x5a);
        let mut machine = Initiator::new(options, Box::new(nonce));
        let (mut input, mut events) = (BytesMut::new(), Vec::new());
        loop {
            for piece in machine.outgoing().drain(..) {
                if !push(&mut stream, &piece).await {
                    return None;
                }
            }
            if stream.read_buf(&mut input).await.ok()? == 0 {
                return None;
            }
            machine.receive(&mut input, &mut events).ok()?;
            if events.iter().any(|event| matches!(event, Event::LoggedIn { .. })) {
                return Some(Self { stream, input, cmd_sn: 1 });
            }
        }
    }

    fn command(&mut self, itt: u32, opcode: u8, bytes: u32, (read, write): (bool, bool)) -> Header {
        let mut cdb = [0; 16];
        cdb[0] = opcode;
        cdb[10..14].copy_from_slice(&(bytes / BLOCK).to_be_bytes());
        let cmd_sn = self.cmd_sn;
        self.cmd_sn += 1;
        let command = ScsiCommand {
            immediate: false,
            final_: true,
            read,
            write,
            attribute: Attribute::Simple,
            lun: 0,
            itt,
            expected_bytes: bytes,
            cmd_sn,
            exp_stat_sn: 0,
            cdb,
        };
        command.encode()
    }

    /// READ (16) of the first blocks.
    pub(crate) fn read(&mut self, itt: u32, bytes: u32) -> Vec<u8> {
        pdu(self.command(itt, 0x88, bytes, (true, false)), &[])
    }

    /// WRITE (16) of the first blocks, with this data in its PDU.
    pub(crate) fn write(&mut self, itt: u32, bytes: u32, immediate: &[u8]) -> Vec<u8> {
        pdu(self.command(itt, 0x8a, bytes, (false, true)), immediate)
    }

    /// The next R2T; None when no PDU came for a while.
    pub(crate) async fn next_r2t(&mut self) -> Option<ReadyToTransfer> {
        loop {
            let whole = self.input.first_chunk::<48>().map(|first| Header(*first));
            if let Some(header) = whole {
                let length = 48 + header.ahs_bytes() + header.data_bytes().next_multiple_of(4);
                if self.input.len() >= length {
                    let _ = self.input.split_to(length);
                    if header.opcode() == Some(Opcode::ReadyToTransfer) {
                        return Some(ReadyToTransfer::decode(&header));
                    }
                    continue;
                }
            }
            let read = self.stream.read_buf(&mut self.input);
            match tokio::time::timeout(Duration::from_millis(700), read).await {
                Ok(Ok(1..)) => {}
                _ => return None,
            }
        }
    }
}

/// A Data-Out of an R2T.
pub(crate) fn data_out(asked: &ReadyToTransfer, sn: u32, offset: u32, data: &Bytes) -> Vec<u8> {
    let end = offset + u32::try_from(data.len()).unwrap();
    let out = DataOut {
        final_: end == asked.offset + asked.length,
        lun: 0,
        itt: asked.itt,
        ttt: asked.ttt,
        exp_stat_sn: 0,
        data_sn: sn,
        offset,
    };
    pdu(out.encode(), data)
}
