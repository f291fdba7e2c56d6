// Asks a web address again and again; says whether it answers, how fast, and how often it did not.
package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"cloister"
)

const kept = 500

// look is one answer, or the lack of one.
type look struct {
	Time         string  `json:"time"`
	Milliseconds float64 `json:"milliseconds"`
	Status       int     `json:"status"`
}

func main() {
	address, _ := cloister.MODEL["url"].(string)
	every := time.Duration(number("seconds", 30) * float64(time.Second))
	slow := number("slow", 1000)
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{Proxy: way}}
	history := []look{}
	for {
		seen, text := ask(client, address)
		history = append(history, seen)
		if len(history) > kept {
			history = history[len(history)-kept:]
		}
		light := "green"
		if seen.Status == 0 || seen.Status >= 400 {
			light = "red"
			fmt.Fprintln(os.Stderr, text)
		} else if seen.Milliseconds >= slow {
			light = "amber"
		}
		cloister.Output(map[string]any{
			"url": address, "light": light, "text": text, "milliseconds": seen.Milliseconds, "status": seen.Status,
			"percent": percent(history), "history": history,
		})
		time.Sleep(every)
	}
}

// way is through the sandbox's proxy, whatever the address: there is no other.
func way(*http.Request) (*url.URL, error) { return url.Parse(os.Getenv("HTTP_PROXY")) }

func ask(client *http.Client, address string) (look, string) {
	began := time.Now()
	seen := look{Time: began.UTC().Format(time.RFC3339)}
	answer, err := client.Get(address)
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(answer.Body, 10_000_000))
		answer.Body.Close()
		seen.Status = answer.StatusCode
	}
	seen.Milliseconds = float64(time.Since(began).Microseconds()) / 1000
	if err != nil {
		return seen, fmt.Sprint("no answer: ", err)
	}
	return seen, fmt.Sprintf("%s in %.0f ms", answer.Status, seen.Milliseconds)
}

func percent(history []look) float64 {
	good := 0
	for _, one := range history {
		if one.Status > 0 && one.Status < 400 {
			good++
		}
	}
	return 100 * float64(good) / float64(len(history))
}

func number(name string, otherwise float64) float64 {
	if value, ok := cloister.MODEL[name].(float64); ok {
		return value
	}
	return otherwise
}
