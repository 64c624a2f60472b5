// Command tidegate is the whole platform in one binary. "tidegate up" starts
// every role on embedded defaults; the other commands are a client of its API.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"tidegate/internal/app"
	"tidegate/internal/embedded"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == engineChild {
		os.Exit(embedded.RunEngineChild(os.Args[2:]))
	}
	os.Exit(app.Execute(rootCommand()))
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "tidegate", Short: "Gradual deployments that watch themselves", Version: app.ThisBuild().String(),
		SilenceUsage: true, SilenceErrors: true,
	}
	root.SetVersionTemplate(app.VersionTemplate)
	onlyHolds(root)
	root.AddCommand(upCommand(), receiveCommand(), verifyCommand(), secretsCommand(), configCommands(), backupCommand(), restoreCommand(), recoverCommand(), doctorCommand())
	root.AddCommand(clientCommands()...)
	return root
}
