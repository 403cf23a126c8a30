// Node's http with ws: `/` and `/content` answer, `/ws` echoes messages.
const http = require('http'), { WebSocketServer } = require('ws');
const server = http.createServer((request, response) => {
  request.resume();
  request.on('end', () => {
    const path = URL.canParse(request.url, 'http://a') ? new URL(request.url, 'http://a').pathname : '';
    response.statusCode = ['/', '/content'].includes(path) ? 200 : 404;
    response.end('ok\n');
  });
});
const service = new WebSocketServer({ server, path: '/ws', perMessageDeflate: true });
service.on('connection', socket => {
  socket.on('error', () => {});
  socket.on('message', (message, isBinary) => socket.send(message, { binary: isBinary }));
});
server.listen(Number(process.argv[2]), '127.0.0.1');
