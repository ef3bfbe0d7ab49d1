// A server on every address that answers every request with its pid: PreloadServe PORT
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

class PreloadServe {
    public static void main(String[] arguments) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(Integer.parseInt(arguments[0])), 0);
        server.createContext("/", exchange -> {
            byte[] answer = (ProcessHandle.current().pid() + "\n").getBytes();
            exchange.sendResponseHeaders(200, answer.length);
            exchange.getResponseBody().write(answer);
            exchange.close();
        });
        server.start();
    }
}
