// HTTP without a signal handler: server.js PORT [WORKERS [MILLISECONDS]]. `/slow` answers after
// 1 s, or after so many milliseconds. With more than 0 workers it is a cluster.
'use strict'
const cluster = require('cluster')
const http = require('http')

const [port, workers = 0, slow = 1000] = process.argv.slice(2).map(Number)

if (workers && cluster.isPrimary) {
  cluster.on('exit', (_, code) => { if (code) process.exit(code) })
  for (let i = 0; i < workers; i++) cluster.fork()
} else {
  http.createServer((request, answer) => {
    setTimeout(() => answer.end('served\n'), request.url === '/slow' ? slow : 0)
  }).listen(port)
}
