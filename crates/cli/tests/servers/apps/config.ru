# A Rack application. `/slow` answers after 1 s.
run lambda { |env|
  sleep 1 if env['PATH_INFO'] == '/slow'
  [200, { 'Content-Type' => 'text/plain', 'Content-Length' => '7' }, ["served\n"]]
}
