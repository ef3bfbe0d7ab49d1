// A server that answers every request with its pid: serve.js PORT [WORKERS [rr|none]]
//
// With workers it is a cluster: with `rr`, Node's default, the primary accepts and distributes the
// connections; with `none` every worker accepts from one socket.
'use strict'
const cluster = require('cluster')
const http = require('http')

const [port, workers, scheduling] = process.argv.slice(2)

if (workers && cluster.isPrimary) {
  cluster.schedulingPolicy = scheduling === 'none' ? cluster.SCHED_NONE : cluster.SCHED_RR
  // The primary exits if a worker cannot listen.
  cluster.on('exit', (_, code) => { if (code) process.exit(code) })
  for (let i = 0; i < Number(workers); i++) cluster.fork()
} else {
  http.createServer((_, answer) => answer.end(`${process.pid}\n`)).listen(Number(port))
}
