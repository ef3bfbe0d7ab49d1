// An HTTP server without a signal handler, as most. /slow takes 2 s; an upgrade echoes bytes. Appends
// the path of each request to the file SEEN.
const fs = require('node:fs');
const http = require('node:http');

const server = http.createServer((request, response) => {
  fs.appendFileSync(process.env.SEEN, request.url + '\n');
  const answer = () => response.end('answer');
  if (request.url.startsWith('/slow')) setTimeout(answer, 2000);
  else answer();
});
server.on('upgrade', (request, socket) => {
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n');
  socket.pipe(socket);
});
server.listen(Number(process.argv[2]), '127.0.0.1');
