# WEBrick: server.rb PORT. `/slow` answers after 1 s.
require 'webrick'

server = WEBrick::HTTPServer.new(Port: ARGV[0].to_i, AccessLog: [])
server.mount_proc('/') { |_, answer| answer.body = "served\n" }
server.mount_proc('/slow') { |_, answer| sleep 1; answer.body = "served\n" }
server.start
