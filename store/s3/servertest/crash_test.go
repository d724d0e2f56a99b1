package servertest_test

const uploadHalf = "upload-half"

func halfAnUpload(string, string) {}
