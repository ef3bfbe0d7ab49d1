// HTTP without a signal handler: server ADDRESS. `/slow` answers after 1 s.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	log.Fatal(http.ListenAndServe(os.Args[1], http.HandlerFunc(
		func(answer http.ResponseWriter, request *http.Request) {
			if request.URL.Path == "/slow" {
				time.Sleep(time.Second)
			}
			fmt.Fprintln(answer, "served")
		})))
}
