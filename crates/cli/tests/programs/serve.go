// A server that answers every request, or datagram, with its pid: serve tcp|udp ADDRESS
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
)

func main() {
	log.SetFlags(0)
	if os.Args[1] == "udp" {
		log.Fatal(datagrams(os.Args[2]))
	}
	log.Fatal(http.ListenAndServe(os.Args[2], http.HandlerFunc(
		func(answer http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(answer, os.Getpid())
		})))
}

func datagrams(address string) error {
	socket, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	buffer := make([]byte, 2048)
	for {
		_, from, err := socket.ReadFrom(buffer)
		if err != nil {
			return err
		}
		if _, err = socket.WriteTo([]byte(fmt.Sprintln(os.Getpid())), from); err != nil {
			return err
		}
	}
}
