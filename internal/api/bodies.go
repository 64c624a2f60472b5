package api

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
)

const (
	// bodyPatienceDefault is for the beginning of a body, and longer than who uploads waits
	// for a turn before it is read.
	bodyPatienceDefault = time.Minute
	// bodyBytesPerSecond are the least that a body must bring after that: little for any
	// network that carries modules, and too much for who holds connections open by a trickle.
	bodyBytesPerSecond = 8 << 10
)

// limitBody ends requests whose body does not come, which nothing else would: anybody may
// begin one. Requests without a body wait for what they like.
func (s *Server) limitBody(c *gin.Context) {
	if c.Request.Body == nil || c.Request.Body == http.NoBody {
		return
	}
	b := &limitedBody{ReadCloser: c.Request.Body, control: http.NewResponseController(c.Writer), patience: s.bodyPatience}
	b.wait() // also for what is thrown away unread
	c.Request.Body = b
}

// limitedBody has a deadline that moves on by what has come.
type limitedBody struct {
	io.ReadCloser
	control  *http.ResponseController
	patience time.Duration
	began    time.Time // to be read; zero: not yet
	came     int64     // bytes
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.began.IsZero() {
		b.began = time.Now()
		b.wait()
	}
	n, err := b.ReadCloser.Read(p)
	b.came += int64(n)
	switch {
	case err == nil:
		b.wait()
	case errors.Is(err, io.EOF): // a handler may take its time
		_ = b.control.SetReadDeadline(time.Time{}) // see wait
	}
	return n, err
}

// wait sets the deadline. Who serves without connections, as tests do, has none.
func (b *limitedBody) wait() {
	began := b.began
	if began.IsZero() {
		began = time.Now()
	}
	_ = b.control.SetReadDeadline(began.Add(b.patience + time.Duration(b.came/bodyBytesPerSecond)*time.Second))
}
