"""DHCP messages as they go over a wire: recorded ones, and made ones."""

import ipaddress
import struct
from collections.abc import Sequence
from pathlib import Path

from hypothesis import strategies as st

from harness.wire.dhcp import Kind

MAC = "52:54:00:6b:69:6f"
MINE = "10.0.2.15"
GATEWAY = "10.0.2.2"
UDP_AT = 14 + 20
PAYLOAD_AT = UDP_AT + 8
OPTIONS_AT = PAYLOAD_AT + 240
# A node's first boot: dhcpcd 9.4.1 and the server of QEMU's user network.
FROM_DHCPCD = "ffffffffffff5254006b696f0800 4500{ip}00000000ffffffff 00440043{udp} 010106004b85c59c"
FROM_QEMU = "ffffffffffff52550a0002020800 4510{ip}0a000202ffffffff 00430044{udp} 020106004b85c59c"
VENDOR = "3c2f6468637063642d392e342e313a4c696e75782d362e31322e3131373a7838365f36343a47656e75696e65496e74656c"
GRANT = "36040a0002020104ffffff0003040a00020206040a000203330400015180ff"


def recorded(head: str, *, ip: str, udp: str, addresses: str, options: str) -> bytes:
    front = bytes.fromhex(head.format(ip=ip, udp=udp)) + bytes(8) + bytes.fromhex(addresses)
    options_at = front.ljust(PAYLOAD_AT + 28, b"\0") + bytes.fromhex("5254006b696f") + bytes(202)
    return options_at + bytes.fromhex("63825363" + options)


RECORDED = [
    recorded(
        FROM_DHCPCD,
        ip="015d3f04000040113a8d",
        udp="0149512e",
        addresses="",
        options=f"350101370701031c21333a3b390205c03d07015254006b696f{VENDOR}740101910101ff",
    ),
    recorded(
        FROM_QEMU,
        ip="02400000000040116c9c",
        udp="022c74dd",
        addresses="0a00020f0a000202",
        options="350102" + GRANT + "00" * 274,
    ),
    recorded(
        FROM_DHCPCD,
        ip="01668a8a00004011eefd",
        udp="0152ed5a",
        addresses="",
        options=f"32040a00020f35010336040a000202370701031c21333a3b390205c03d07015254006b696f{VENDOR}910101ff",
    ),
    recorded(
        FROM_QEMU,
        ip="02400001000040116c9b",
        udp="022c71dd",
        addresses="0a00020f0a000202",
        options="350105" + GRANT + "00" * 274,
    ),
]


def address(text: str) -> bytes:
    return ipaddress.IPv4Address(text).packed


def option(code: int, value: bytes) -> bytes:
    return bytes((code, len(value))) + value


def bootp(
    kind: int,
    options: bytes = b"",
    *,
    xid: int = 1,
    mac: str = MAC,
    ciaddr: str = "0.0.0.0",
    yiaddr: str = "0.0.0.0",
    sname: bytes = b"",
    file: bytes = b"",
) -> bytes:
    """The UDP payload of one message: the kind, `options`, the end."""
    operation = 2 if kind in (Kind.OFFER, Kind.ACK, Kind.NAK) else 1
    fixed = struct.pack("!BBBBIHH", operation, 1, 6, 0, xid, 0, 0) + address(ciaddr) + address(yiaddr) + bytes(8)
    named = bytes.fromhex(mac.replace(":", "")).ljust(16, b"\0") + sname.ljust(64, b"\0") + file.ljust(128, b"\0")
    return fixed + named + bytes((99, 130, 83, 99)) + option(53, bytes((kind,))) + options + b"\xff"


def frame(payload: bytes, port: int | None = None) -> bytes:
    """An Ethernet frame around a payload; without a port it goes to the client or the server as its op says."""
    port = port or {1: 67, 2: 68}[payload[0]]
    udp = struct.pack("!HHHH", 135 - port, port, 8 + len(payload), 0) + payload
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + address("0.0.0.0") + address("255.255.255.255")
    return with_checksum(bytes(12) + b"\x08\x00" + ip + udp)


def with_checksum(packet: bytes, words: int = 10) -> bytes:
    header = packet[14:24] + bytes(2) + packet[26 : 14 + 2 * words]
    total = sum(struct.unpack(f"!{words}H", header))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return packet[:24] + struct.pack("!H", total ^ 0xFFFF) + packet[26:]


def discover(*, xid: int = 1, mac: str = MAC) -> bytes:
    return frame(bootp(Kind.DISCOVER, xid=xid, mac=mac))


def request(wanted: str = MINE, *, server: str = GATEWAY, xid: int = 1, mac: str = MAC) -> bytes:
    return frame(bootp(Kind.REQUEST, option(50, address(wanted)) + option(54, address(server)), xid=xid, mac=mac))


def write(path: Path, packets: Sequence[bytes]) -> Path:
    records = (struct.pack("<IIII", at, 0, len(packet), len(packet)) + packet for at, packet in enumerate(packets))
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + b"".join(records))
    return path


options = st.one_of(
    st.binary(max_size=80),
    st.lists(st.builds(option, st.integers(0, 255), st.binary(max_size=9))).map(b"".join),
)
