package api

import "time"

// NeverWaitForTurns refuses at once who would have to wait.
func (s *Server) NeverWaitForTurns() { s.turns.wait = time.Nanosecond }

// Turns of an account that are allowed at once.
const Turns = accountTurnsMax

// TurnsTaken are those that the account has now.
func (s *Server) TurnsTaken(account string) int {
	s.turns.mu.Lock()
	defer s.turns.mu.Unlock()
	return s.turns.taken[account]
}
