// Node's `ws` with permessage-deflate against echoes that compress.
//
//     ws_deflate.js ws://HOST:PORT
//
// /shared forgets after each message, /dedicated remembers 32 KiB, /narrow remembers 512 bytes.
"use strict";

const assert = require("node:assert/strict");
const { createHash } = require("node:crypto");
const { opened, closed } = require("./ws_client.js");

const url = process.argv[2];
const RSV1 = 0x40;

// No two places of it are alike: only what was sent before makes it shorter.
const hashes = Array.from({ length: 125 }, (_, at) => createHash("sha256").update(`${at}`).digest("hex"));
const HEX = hashes.join("");
const TEXTS = ["", "short", "κόσμε 🦀 ".repeat(500), "a".repeat(65536), "b".repeat(200_000), HEX];

async function open(path, offer) {
  const client = await opened(url + path, { perMessageDeflate: { threshold: 0, ...offer } });
  // What came, as the socket has it: the first byte of a frame, and how many bytes there were.
  const came = { first: null, bytes: 0 };
  client.socket._socket.prependListener("data", (data) => {
    came.first ??= data[0];
    came.bytes += data.length;
  });
  client.arrives = async (message) => {
    Object.assign(came, { first: null, bytes: 0 });
    await client.echoes(message);
    return { isCompressed: (came.first & RSV1) !== 0, bytes: came.bytes };
  };
  return client;
}

async function everything_comes_back(client) {
  for (const text of [...TEXTS, ...TEXTS]) {
    for (const message of [text, Buffer.from(text)]) {
      const { isCompressed } = await client.arrives(message);
      assert.equal(isCompressed, message.length >= 256, `RSV1 of ${String(message).slice(0, 40)}`);
    }
  }
  for (let at = 0; at < HEX.length; at += 500) {
    client.socket.send(HEX.slice(at, at + 500), { fin: at + 500 >= HEX.length });
  }
  await client.receives(HEX);
}

async function every_mode_works(path) {
  // What is undefined is left to the server.
  for (const serverNoContextTakeover of [undefined, true]) {
    for (const clientNoContextTakeover of [undefined, true]) {
      for (const serverMaxWindowBits of [undefined, 9, 15]) {
        for (const clientMaxWindowBits of [undefined, 10]) {
          const offer = {
            serverNoContextTakeover,
            clientNoContextTakeover,
            serverMaxWindowBits,
            clientMaxWindowBits,
          };
          const client = await open(path, offer);
          assert.equal(client.socket.extensions, "permessage-deflate");
          const first = await client.arrives(HEX);
          const again = await client.arrives(HEX);
          assert(first.isCompressed && again.isCompressed);
          // A window of 512 bytes does not reach back to what was sent 8000 bytes ago.
          const remembers = path === "/dedicated" && !serverNoContextTakeover && serverMaxWindowBits !== 9;
          assert.equal(again.bytes < first.bytes / 4, remembers, JSON.stringify([path, offer, first, again]));
          if (serverMaxWindowBits === undefined) await everything_comes_back(client);
          client.socket.terminate();
        }
      }
    }
  }
}

async function what_grows_over_the_limit_is_1009(path) {
  const { socket } = await open(path, {});
  socket.send(Buffer.alloc(16 << 20));
  assert.equal(await closed(socket), 1009);
}

(async () => {
  for (const path of ["/shared", "/dedicated", "/narrow"]) {
    for (const check of [every_mode_works, what_grows_over_the_limit_is_1009]) {
      console.log(path, check.name);
      await check(path);
    }
  }
  console.log("all is well");
  process.exit(0);
})();
