// What a page does with an echo; run in a page by chromium_echo.py.
async (url, compresses) => {
  const MESSAGE_BYTES_MAX = 1 << 20;
  const LENGTHS = [0, 1, 125, 126, 127, 65535, 65536, MESSAGE_BYTES_MAX - 1, MESSAGE_BYTES_MAX];

  const check = (is, what) => {
    if (!is) throw new Error(what);
  };

  async function open() {
    const socket = new WebSocket(url, []);
    socket.binaryType = "arraybuffer";
    const inbox = [];
    let waiting = null;
    socket.onmessage = ({ data }) => {
      inbox.push(data);
      if (waiting) waiting();
    };
    await new Promise((opened, failed) => {
      socket.onopen = opened;
      socket.onclose = (event) => failed(new Error(`closed with ${event.code}`));
    });
    const closed = new Promise((closed) => (socket.onclose = closed));
    const next = async () => {
      while (inbox.length === 0) await new Promise((came) => (waiting = came));
      return inbox.shift();
    };
    return { socket, next, closed };
  }

  const isSame = (one, other) => {
    if (typeof one === "string") return one === other;
    const [a, b] = [new Uint8Array(one), new Uint8Array(other)];
    return a.length === b.length && a.every((byte, at) => byte === b[at]);
  };

  async function messages_of_every_length_come_back({ socket, next }) {
    for (const length of LENGTHS) {
      const pattern = Uint8Array.from({ length }, (_, at) => at % 251).buffer;
      for (const message of ["t".repeat(length), pattern]) {
        socket.send(message);
        check(isSame(message, await next()), `${length} bytes do not come back`);
      }
    }
    const text = "κόσμε 🦀 ".repeat(1000);
    socket.send(text);
    check((await next()) === text, "text does not come back");
  }

  async function hundreds_in_flight_come_back_in_order({ socket, next }) {
    const messages = Array.from({ length: 600 }, (_, at) => `${at} `.repeat(at % 200));
    for (const message of messages) socket.send(message);
    for (const message of messages) check((await next()) === message, `${message} is not next`);
  }

  async function a_close_comes_back_with_its_code() {
    for (const [code, reason] of [[1000, ""], [3000, "r".repeat(123)], [4999, "größe"]]) {
      const { socket, closed } = await open();
      socket.close(code, reason);
      const event = await closed;
      check(event.wasClean && event.code === code, `${event.code} instead of ${code}`);
    }
  }

  async function a_message_over_the_limit_is_1009() {
    const { socket, closed } = await open();
    // In frames of 128 KiB, of which the last is over it.
    socket.send(new ArrayBuffer(MESSAGE_BYTES_MAX + 1));
    const { code } = await closed;
    check(code === 1009, `${code} instead of 1009`);
  }

  const connection = await open();
  check(connection.socket.protocol === "", "a sub-protocol was agreed");
  const extensions = connection.socket.extensions;
  check(extensions.startsWith("permessage-deflate") === compresses, `extensions: ${extensions}`);
  await messages_of_every_length_come_back(connection);
  await hundreds_in_flight_come_back_in_order(connection);
  await a_close_comes_back_with_its_code();
  await a_message_over_the_limit_is_1009();
}
