#!/usr/bin/env escript
%% A server on every address that answers every request with its pid: preload_serve.escript PORT
main([Port]) ->
    Options = [binary, inet6, {ipv6_v6only, false}, {active, false}],
    {ok, Listener} = gen_tcp:listen(list_to_integer(Port), Options),
    serve(Listener).

serve(Listener) ->
    {ok, Client} = gen_tcp:accept(Listener),
    _ = gen_tcp:recv(Client, 0),
    ok = gen_tcp:send(Client, ["HTTP/1.0 200 OK\r\n\r\n", os:getpid(), "\n"]),
    ok = gen_tcp:close(Client),
    serve(Listener).
