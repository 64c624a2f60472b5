package api

import "time"

// NeverWaitForTurns refuses at once who would have to wait.
func (s *Server) NeverWaitForTurns() { s.turns.wait = time.Nanosecond }

// NeverWaitForQuestions refuses at once who would have to wait to ask ClickHouse.
func (s *Server) NeverWaitForQuestions() { s.questions.wait = time.Nanosecond }

// WaitForQuestions sets how long who asks ClickHouse, or for a backtest, waits for a turn.
func (s *Server) WaitForQuestions(d time.Duration) { s.questions.wait, s.backtests.wait = d, d }

// Questions that are worked on at once, of an account and of all.
const (
	AccountQuestions = accountQuestionsMax
	Questions        = questionsMax
)

// BeatEvery sets how often those who watch events are told that the stream is alive.
func (s *Server) BeatEvery(d time.Duration) { s.eventHeartbeat = d }

// AwaitBodies sets how long the beginning of a body may take.
func (s *Server) AwaitBodies(d time.Duration) { s.bodyPatience = d }

// Turns of an account that are allowed at once.
const Turns = accountTurnsMax

// TurnsTaken are those that the account has now.
func (s *Server) TurnsTaken(account string) int {
	s.turns.mu.Lock()
	defer s.turns.mu.Unlock()
	return s.turns.taken[account]
}
