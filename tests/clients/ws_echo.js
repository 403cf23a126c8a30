// Node's `ws` against an echo.
//
//     ws_echo.js ws://HOST:PORT/ws
"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const { WebSocket, opened, closed } = require("./ws_client.js");

const url = process.argv[2];
const MESSAGE_BYTES_MAX = 1 << 20;
const LENGTHS = [0, 1, 125, 126, 127, 65535, 65536, MESSAGE_BYTES_MAX - 1, MESSAGE_BYTES_MAX];

const checks = {
  async nothing_is_agreed_that_the_server_does_not_have() {
    await assert.rejects(opened(url, {}, ["chat", "superchat"]), /Server sent no subprotocol/);
    const client = await opened(url, { perMessageDeflate: true });
    assert.equal(client.socket.extensions, "");
    await client.echoes("plain ".repeat(200));
    client.socket.terminate();
  },

  async pages_of_other_origins_are_refused() {
    const socket = new WebSocket(url, { origin: "http://elsewhere.example" });
    const [request, response] = await once(socket, "unexpected-response");
    assert.equal(response.statusCode, 403);
    request.destroy();
  },

  async messages_of_every_length_come_back() {
    const client = await opened(url);
    for (const length of LENGTHS) {
      await client.echoes("t".repeat(length));
      await client.echoes(Buffer.from({ length }, (_, at) => at % 251));
    }
    client.socket.terminate();
  },

  async pings_between_fragments_are_answered_before_the_message() {
    const client = await opened(url);
    const pongs = [];
    client.socket.on("pong", (payload) => pongs.push(payload.toString()));
    for (let at = 0; at < 10; at++) {
      client.socket.send(`fragment ${at} `, { fin: at === 9 });
      client.socket.ping(`behind ${at}`);
    }
    await client.receives(Array.from({ length: 10 }, (_, at) => `fragment ${at} `).join(""));
    // The last may have come by now, or not.
    assert.deepEqual(pongs.slice(0, 9), Array.from({ length: 9 }, (_, at) => `behind ${at}`));
    client.socket.terminate();
  },

  async a_character_may_be_cut_by_fragments() {
    const client = await opened(url);
    const text = Buffer.from("κόσμε 🦀 ende");
    for (let cut = 0; cut <= text.length; cut++) {
      client.socket.send(text.subarray(0, cut), { binary: false, fin: false });
      client.socket.send(text.subarray(cut), { binary: false, fin: true });
      await client.receives(text.toString());
    }
    client.socket.terminate();
  },

  async a_ping_is_answered_with_its_payload() {
    const client = await opened(url);
    for (const length of [0, 1, 125]) {
      client.socket.ping(Buffer.alloc(length, "p"));
      const [payload] = await once(client.socket, "pong");
      assert.deepEqual(payload, Buffer.alloc(length, "p"));
    }
    client.socket.terminate();
  },

  async a_close_comes_back_with_its_code() {
    for (const [code, reason] of [[1000, ""], [1001, "bye"], [3000, "r".repeat(123)], [4999, "größe"]]) {
      const { socket } = await opened(url);
      socket.close(code, reason);
      assert.equal(await closed(socket), code);
    }
    const { socket } = await opened(url);
    socket.close();
    // RFC 6455 §7.1.5: what stands for no code at all.
    assert.equal(await closed(socket), 1005);
  },

  async hundreds_in_flight_come_back_in_order() {
    const client = await opened(url);
    const messages = Array.from({ length: 600 }, (_, at) => `${at} `.repeat(at % 200));
    for (const message of messages) client.socket.send(message);
    for (const message of messages) await client.receives(message);
    client.socket.terminate();
  },

  async the_largest_messages_come_back_to_a_client_that_reads_late() {
    const client = await opened(url);
    const length = (at) => (at % 4 === 3 ? MESSAGE_BYTES_MAX : 60_000);
    const messages = Array.from({ length: 60 }, (_, at) => Buffer.alloc(length(at), at));
    client.socket.pause();
    for (const message of messages) client.socket.send(message);
    setTimeout(() => client.socket.resume(), 300);
    for (const message of messages) await client.receives(message);
    client.socket.terminate();
  },

  async a_message_over_the_limit_is_1009() {
    // By one byte: a client that goes on sending may see a reset instead of the Close.
    const { socket } = await opened(url);
    socket.send(Buffer.alloc(MESSAGE_BYTES_MAX), { fin: false });
    socket.send(Buffer.alloc(1));
    assert.equal(await closed(socket), 1009);
  },

  async text_that_is_none_is_1007() {
    for (const bytes of [[0xff], [0xed, 0xa0, 0x80], [0x61, 0xf0, 0x9f, 0xa6]]) {
      const { socket } = await opened(url);
      socket.send(Buffer.from(bytes), { binary: false });
      assert.equal(await closed(socket), 1007);
    }
  },

  async a_frame_without_a_mask_is_1002() {
    const { socket } = await opened(url);
    socket.send("plain", { mask: false });
    assert.equal(await closed(socket), 1002);
  },
};

(async () => {
  for (const [name, check] of Object.entries(checks)) {
    console.log(name);
    await check();
  }
  console.log("all is well");
  process.exit(0);
})();
