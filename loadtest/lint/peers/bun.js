// Bun's own server: `/` and `/content` answer, `/ws` echoes messages.
Bun.serve({
  port: Number(process.argv[2]), hostname: '127.0.0.1',
  async fetch(request, server) {
    const path = new URL(request.url).pathname;
    if (path === '/ws') return server.upgrade(request) ? undefined : new Response('no\n', { status: 400 });
    await request.text();
    return new Response('ok\n', { status: ['/', '/content'].includes(path) ? 200 : 404 });
  },
  websocket: { perMessageDeflate: true, message(socket, message) { socket.send(message); } },
});
