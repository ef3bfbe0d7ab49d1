// Answers every connection to ADDRESS with its pid. Static, without libc.
package main

import (
	"fmt"
	"net"
	"os"
)

func main() {
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		if connection, err := listener.Accept(); err == nil {
			fmt.Fprintln(connection, os.Getpid())
			connection.Close()
		}
	}
}
