// A websocket server that returns every short message: websocket.js PORT.
'use strict'
const { createHash } = require('crypto')
const http = require('http')

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

const server = http.createServer((_, answer) => answer.end('served\n'))
server.on('upgrade', (request, socket) => {
  const key = request.headers['sec-websocket-key'] + GUID
  const accept = createHash('sha1').update(key).digest('base64')
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
    `Sec-WebSocket-Accept: ${accept}\r\n\r\n`)
  socket.on('error', () => socket.destroy())
  socket.on('data', (frame) => {
    // One masked text frame of less than 126 bytes arrives in one piece.
    const length = frame[1] & 127
    const mask = frame.subarray(2, 6)
    const text = frame.subarray(6, 6 + length).map((byte, at) => byte ^ mask[at % 4])
    socket.write(Buffer.concat([Buffer.from([0x81, length]), text]))
  })
})
server.listen(Number(process.argv[2]))
