# A server on 127.0.0.1 that answers every request with its pid: preload_serve.rb PORT
require 'socket'
server = TCPServer.new('127.0.0.1', Integer(ARGV[0]))
loop do
  client = server.accept
  client.readpartial(4096)
  client.write("HTTP/1.0 200 OK\r\n\r\n#{Process.pid}\n")
  client.close
end
