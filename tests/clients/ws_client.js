// A connection of Node's `ws`, as the checks use it: what comes is waited for in order.
"use strict";

const assert = require("node:assert/strict");
const { on, once } = require("node:events");
const WebSocket = require("ws");

// Whoever waits in vain is ended from outside.
class Client {
  constructor(socket) {
    this.socket = socket;
    this.messages = on(socket, "message", { close: ["close"] });
  }

  async receives(message) {
    const { value, done } = await this.messages.next();
    assert(!done, `the connection was closed instead of ${String(message).slice(0, 40)}`);
    const [data, isBinary] = value;
    assert.equal(isBinary, typeof message !== "string");
    assert(data.equals(Buffer.from(message)), `${data.subarray(0, 40)} came, ${data.length} bytes`);
  }

  async echoes(message) {
    this.socket.send(message);
    await this.receives(message);
  }
}

/** A switched connection; without compression, unless it is asked for. */
async function opened(url, options = {}, subprotocols = []) {
  const socket = new WebSocket(url, subprotocols, { perMessageDeflate: false, ...options });
  const client = new Client(socket);
  await once(socket, "open");
  return client;
}

/** The code it is closed with. */
async function closed(socket) {
  const [code] = await once(socket, "close");
  return code;
}

module.exports = { WebSocket, opened, closed };
