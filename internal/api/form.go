package api

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// Bounds of an upload (docs/workers.md, section 9).
const (
	uploadBytesMax     = 64 << 20
	modulesMax         = 400 // source maps are not counted, and have the same bound
	moduleNameBytesMax = 1024
	documentBytesMax   = 1 << 20 // of what describes the modules, all its parts together
	membersMax         = 10_000  // parts that are members of it
)

const (
	codeBadScript = 10021 // Cloudflare: the script did not pass validation
	codeTooLarge  = 10027 // Cloudflare: the script is too large
)

// form is a multipart body.
type form struct {
	document []byte // the JSON of the part that describes the others; nil when missing
	parts    []part // the others, in their order
}

type part struct {
	name        string
	isFile      bool   // it was sent with the name of a file
	contentType string // as it was sent
	content     []byte
}

// form reads a multipart body whose describing part has the name document, when it
// is the request's turn.
func (r *request) form(document string) (form, error) {
	req := r.gin.Request
	if req.ContentLength > uploadBytesMax {
		return form{}, uploadTooLarge()
	}
	if err := r.takeTurn(); err != nil {
		return form{}, err
	}
	return readForm(req.Header.Get("Content-Type"), http.MaxBytesReader(r.gin.Writer, req.Body, uploadBytesMax), document)
}

func uploadTooLarge() error {
	return errs.New(errs.TooLarge, codeTooLarge, "the upload is larger than %d bytes", uploadBytesMax)
}

func isMultipart(header http.Header) bool {
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	return err == nil && kind == "multipart/form-data"
}

// readForm reads a multipart body to its end. Its errors are invalid or too_large.
func readForm(contentType string, body io.Reader, document string) (form, error) {
	var f form
	kind, parameters, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "multipart/form-data" || parameters["boundary"] == "" {
		return f, errs.New(errs.Invalid, 0, "Content-Type %q is not multipart/form-data with a boundary", shown(contentType))
	}
	reader := multipart.NewReader(body, parameters["boundary"])
	members := make(map[string]string)
	described := 0 // bytes
	for {
		// Raw, because nothing that sends modules encodes them for transfer.
		next, err := reader.NextRawPart()
		if err == io.EOF { //nolint:errorlint // a body that is cut off ends with one that wraps it
			break
		}
		if err != nil {
			return f, formError(err)
		}
		p, err := readPart(next)
		if err != nil {
			return f, err
		}
		// One with the name of a file is a module, though it may be called metadata.js.
		member, isMember := strings.CutPrefix(p.name, document+".")
		isMember = isMember && !p.isFile
		_, repeated := members[member]
		if p.name == document || isMember {
			if described += len(p.name) + len(p.content); described > documentBytesMax {
				return f, documentTooLarge(document)
			}
		}
		switch {
		case p.name == document && f.document != nil, isMember && repeated:
			return f, errs.New(errs.Invalid, 0, "the part %q appears twice", shown(p.name))
		case p.name == document:
			f.document = append([]byte{}, p.content...)
		case isMember && len(members) == membersMax:
			return f, errs.New(errs.Invalid, 0, "the upload has more than %d parts whose names begin with %q", membersMax, document+".")
		case isMember:
			members[member] = string(p.content)
		case len(f.parts) == 2*modulesMax:
			return f, tooManyModules()
		default:
			f.parts = append(f.parts, p)
		}
	}
	switch {
	case len(members) == 0:
	case f.document != nil:
		return f, errs.New(errs.Invalid, 0, "the upload has a part %q, and parts for single members of it: send one or the others", document)
	default:
		f.document, err = documentOf(members)
	}
	return f, err
}

func tooManyModules() error {
	return errs.New(errs.Invalid, codeTooLarge, "the upload has more than %d modules", modulesMax)
}

func documentTooLarge(document string) error {
	return errs.New(errs.TooLarge, codeTooLarge, "%s, which describes the modules, is larger than %d bytes", document, documentBytesMax)
}

func formError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return uploadTooLarge()
	}
	return errs.New(errs.Invalid, 0, "the multipart body is broken or ends too early: %s", shown(err.Error()))
}

// listedFile is the name under which API clients send each module of a list. The
// module's own name is then that of the file.
var listedFile = regexp.MustCompile(`^files([.\[].*)?$`)

func readPart(p *multipart.Part) (part, error) {
	// Not p.FileName, which cuts folders off.
	_, parameters, err := mime.ParseMediaType(p.Header.Get("Content-Disposition"))
	if err != nil || parameters["name"] == "" {
		return part{}, errs.New(errs.Invalid, 0, "a part of the upload has no name in its Content-Disposition %q", shown(p.Header.Get("Content-Disposition")))
	}
	name := parameters["name"]
	file, isFile := parameters["filename"]
	if file != "" && listedFile.MatchString(name) {
		name = file
	}
	content, err := io.ReadAll(p)
	if err != nil {
		return part{}, formError(err)
	}
	return part{name, isFile, p.Header.Get("Content-Type"), content}, nil
}

// modules checks the parts as modules and returns them with their contents by hash.
func (f *form) modules() ([]deploy.Module, map[string][]byte, error) {
	list := make([]deploy.Module, 0, len(f.parts))
	contents := make(map[string][]byte, len(f.parts))
	seen := make(map[string]bool, len(f.parts))
	run := 0
	for _, p := range f.parts {
		if err := checkModuleName(p.name); err != nil {
			return nil, nil, err
		}
		if seen[p.name] {
			return nil, nil, errs.New(errs.Invalid, 0, "module %q appears twice", shown(p.name))
		}
		seen[p.name] = true
		contentType, err := moduleType(p)
		if err != nil {
			return nil, nil, err
		}
		if contentType != deploy.ModuleTypeSourceMap {
			run++
		}
		sum := sha256.Sum256(p.content)
		module := deploy.Module{Name: p.name, ContentType: contentType, SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(p.content))}
		list, contents[module.SHA256] = append(list, module), p.content
	}
	if run > modulesMax || len(list)-run > modulesMax {
		return nil, nil, errs.New(errs.Invalid, codeTooLarge, "the upload has %d modules and %d source maps: at most %d of each are allowed", run, len(list)-run, modulesMax)
	}
	return list, contents, nil
}

// checkModuleName keeps names inside the folder that the runtime gives a version.
func checkModuleName(name string) error {
	refuse := func(why string) error {
		return errs.New(errs.Invalid, 0, "module name %q %s", shown(name), why)
	}
	switch {
	case name == "":
		return refuse("is empty")
	case len(name) > moduleNameBytesMax:
		return refuse(fmt.Sprintf("has %d bytes: at most %d are allowed", len(name), moduleNameBytesMax))
	case !utf8.ValidString(name):
		return refuse("is not UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return refuse("has a control character")
	case strings.Contains(name, `\`):
		return refuse("has a backslash")
	case strings.HasPrefix(name, "/"):
		return refuse("begins with a slash")
	}
	for _, segment := range strings.Split(name, "/") {
		if segment == ".." {
			return refuse(`leads out of its folder with ".."`)
		}
	}
	return nil
}

// moduleTypes maps what clients send to one spelling.
var moduleTypes = map[string]string{
	deploy.ModuleTypeESM:       deploy.ModuleTypeESM,
	"text/javascript+module":   deploy.ModuleTypeESM,
	deploy.ModuleTypeCommonJS:  deploy.ModuleTypeCommonJS,
	"text/javascript":          deploy.ModuleTypeCommonJS,
	deploy.ModuleTypeWasm:      deploy.ModuleTypeWasm,
	deploy.ModuleTypeText:      deploy.ModuleTypeText,
	deploy.ModuleTypeData:      deploy.ModuleTypeData,
	deploy.ModuleTypeSourceMap: deploy.ModuleTypeSourceMap,
}

func moduleType(p part) (string, error) {
	kind, _, err := mime.ParseMediaType(p.contentType)
	switch contentType, known := moduleTypes[kind]; {
	case err == nil && known:
		return contentType, nil
	case err == nil && strings.HasPrefix(kind, "text/x-python"):
		return "", errs.New(errs.Invalid, 0, "module %q: Python is not supported yet", shown(p.name))
	default:
		return "", errs.New(errs.Invalid, 0, "module %q has the Content-Type %q: it must be one of %s", shown(p.name), shown(p.contentType), strings.Join([]string{
			deploy.ModuleTypeESM, deploy.ModuleTypeCommonJS, deploy.ModuleTypeWasm, deploy.ModuleTypeText, deploy.ModuleTypeData, deploy.ModuleTypeSourceMap,
		}, ", "))
	}
}
