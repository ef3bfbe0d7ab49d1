// An HTTP server that drains on SIGTERM: PORT [shared]
'use strict'
const [port, shared] = process.argv.slice(1)
const server = require('http').createServer((_, answer) => {
  const body = `${process.pid}\n`
  answer.writeHead(200, { 'Content-Length': body.length, 'Connection': 'close' }).end(body)
})
process.on('SIGTERM', () => server.close(() => process.exit(0)))
server.listen({ port: Number(port), host: '127.0.0.1', reusePort: shared === 'shared' }, () => console.log('ready'))
